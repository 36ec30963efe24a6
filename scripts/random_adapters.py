"""Checkpoints of any method with random weights, for measuring how they are served: nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Where a method's defaults are made for larger models than the embedded base, or where it has none.
OPTIONS: dict[str, dict[str, Any]] = {
    "trainable_tokens": {"token_indices": [100, 200, 300]},
    "osf": {"effective_rank": 240},
}
# What is added to weights that act through small fixed factors, where the usual noise would change no answer.
SCALES = {"unilora": 1.0}
_STEPS = 20
_EXAMPLE_TOKENS = 24


def write_checkpoint(method_name: str, base: Path, folder: Path, *, scale: float = 0.02, seed: int = 1) -> None:
    """Writes a method's checkpoint at its own defaults, every trained weight moved off its start.

    Args:
        method_name: one of `peft-eval methods`.
        base: a model folder.
        folder: where to write.
        scale: standard deviation of what is added to each trained weight, for methods without one of their own.
        seed: seeds the method's start and the noise.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from peft_eval.checkpoint.writing import copy_companions, save_adapter, save_full
    from peft_eval.methods.method import Course
    from peft_eval.methods.tuner import register_all
    from peft_eval.plugins import methods, pick

    register_all()
    torch.manual_seed(seed)
    method = pick("method", method_name, methods(), place="--methods")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    stored = AutoModelForCausalLM.from_pretrained(base).dtype
    options = method.fit(model, method.options(**OPTIONS.get(method_name, {})))
    if hasattr(method, "prepare_in"):
        course = Course(steps=_STEPS, examples=lambda count: _examples(model.config.vocab_size, count))
        prepared = method.prepare_in(model, options, base_id=str(base), course=course)
    else:
        prepared = method.prepare(model, options, base_id=str(base))
    with torch.no_grad():
        for weight in prepared.parameters():
            if weight.requires_grad:
                weight += SCALES.get(method_name, scale) * torch.randn_like(weight)
    folder.mkdir(parents=True, exist_ok=True)
    if method.kind == "full":
        save_full(prepared, folder, dtype=stored)
        copy_companions(base, folder, full=True)
    else:
        save_adapter(prepared, folder)


def _examples(vocabulary: int, count: int) -> Iterator[dict[str, Any]]:
    """Yields random examples for methods that start from data."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for start in range(0, count, 8):
        rows = min(8, count - start)
        ids = torch.randint(3, vocabulary, (rows, _EXAMPLE_TOKENS), generator=generator)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}
