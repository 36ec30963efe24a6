"""The proof that an engine serves the weights that were put into it last, and not those it served before.

`peft_eval.serving.probe` holds an adapter's answers against base + adapter and the base. Where checkpoints take turns
in one engine, the weights that were there before are a third thing that it may still serve; and a base or a full
fine-tune needs a proof as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_eval.errors import ProbeError
from peft_eval.serving.probe import engine_distances

if TYPE_CHECKING:
    import torch
    from vllm import LLM

    from peft_eval.merging.reference import Distance

# Of the distance that lies between the two checkpoints, what an engine's rounding may cover.
_PLAIN_DIFFERENCE = 2.0
_SMALL_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Expected:
    """What the probe prompts should give.

    Attributes:
        prompt_ids: their token ids.
        logits: one float32 tensor of (tokens, vocabulary) a prompt.
    """

    prompt_ids: list[list[int]]
    logits: list[torch.Tensor]


def expected_of_folder(model_folder: Path, tokenizer_folder: Path) -> Expected:
    """Computes what a model folder's own weights answer, with transformers, in float32 if the model is small."""
    import torch

    from peft_eval.checkpoint.architecture import model_class, read_config
    from peft_eval.merging.reference import logits_of, probe_prompt_ids, quiet_transformers

    prompts = probe_prompt_ids(tokenizer_folder)
    small = sum(file.stat().st_size for file in model_folder.glob("*.safetensors")) < _SMALL_BYTES
    with quiet_transformers():
        kind = model_class(read_config(model_folder))
        model = kind.from_pretrained(model_folder, dtype=torch.float32 if small else "auto").eval()
    return Expected(prompts, logits_of(model, prompts))


def prove_swap(
    engine: LLM, now: Expected, before: Expected | None, place: str, virtual_ids: Sequence[int] = ()
) -> dict[str, Any]:
    """Checks that an engine answers as the weights do that it was given, and not as those before them.

    Args:
        engine: the engine.
        now: what it should answer.
        before: what the weights answered that it held before; None if it was just started.
        place: the checkpoint as the user wrote it.
        virtual_ids: virtual tokens that every prompt begins with.

    Returns:
        The distances, for the results.

    Raises:
        ProbeError: its answers are nearer to those of before.
    """
    from peft_eval.merging.reference import Distance, Reference

    comparable = before is not None and before.prompt_ids == now.prompt_ids
    other = before.logits if before is not None and comparable else now.logits
    reference = Reference(now.prompt_ids, base=other, unmerged=now.logits, merged=None, dtype="float32")
    to_now, to_before = engine_distances(engine, reference, virtual_ids)
    if not comparable:
        return {"engine_to_checkpoint": asdict(to_now), "engine_to_last": None}
    between: Distance = Distance.between(now.logits, other)
    if to_now.mean >= to_before.mean and between.mean > _PLAIN_DIFFERENCE * to_before.mean:
        raise ProbeError(
            f"the engine still serves the checkpoint before this one (distance {to_before.mean:.3g} to that, "
            f"{to_now.mean:.3g} to this)",
            place=place,
            remedy="evaluate it by itself, and report this with the versions that peft-eval doctor prints",
        )
    return {"engine_to_checkpoint": asdict(to_now), "engine_to_last": asdict(to_before)}
