"""What is asked of vLLM and what it answers, as JSON, each answer as soon as it is complete."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

# Settings that do not change an answer, or are ours.
_IMMATERIAL = ("output_kind", "detokenize", "skip_clone", "_")


def settings_of(sampling: Any) -> tuple[dict[str, Any], bool]:
    """Returns what generation settings differ from vLLM's defaults, and whether answers are drawn.

    Args:
        sampling: `vllm.SamplingParams`.
    """
    import msgspec

    default = type(sampling)()
    found = {}
    for name in sampling.__struct_fields__:
        value = getattr(sampling, name)
        if not name.startswith(_IMMATERIAL) and value != getattr(default, name):
            found[name] = sorted(value) if isinstance(value, set | frozenset) else value
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain, sampling.temperature > 0


@contextlib.contextmanager
def finished_answers(engine: Any, take: Callable[[dict[int, dict[str, Any]]], None]) -> Iterator[None]:
    """Hands over a `vllm.LLM`'s answers after each of its steps, by the order in which they are asked for inside.

    Args:
        engine: the engine, or None where answers come from other processes all at once.
        take: is given the answers that were completed, by the number of their request.
    """
    inner = engine.llm_engine
    add, step = inner.add_request, inner.step
    numbers: dict[str, int] = {}

    def counting_add(request_id: str, *args: Any, **options: Any) -> Any:
        numbers[request_id] = len(numbers)
        return add(request_id, *args, **options)

    def handing_step(*args: Any, **options: Any) -> Any:
        outputs = step(*args, **options)
        finished = {numbers[one.request_id]: answer_of(one) for one in outputs if one.finished}
        if finished:
            take(finished)
        return outputs

    inner.add_request, inner.step = counting_add, handing_step
    try:
        yield
    finally:
        inner.add_request, inner.step = add, step


def answer_of(output: Any) -> dict[str, Any]:
    """Returns what is kept of vLLM's answer to one request."""
    completion = output.outputs[0]
    return {"text": completion.text, "finish_reason": completion.finish_reason}
