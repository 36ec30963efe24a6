"""Peft adapters with random, non-zero weights, made by peft itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_adapter(base: Path, folder: Path, config: Any, *, scale: float = 0.05, seed: int = 0) -> dict[str, Any]:
    """Saves an adapter of `base` under `folder` and returns peft's own merged state dict, empty where there is none.

    Args:
        base: a model folder.
        folder: where to save.
        config: a peft config; its task type is set to causal language modelling.
        scale: standard deviation of what is added to each trained parameter; 0 leaves peft's start.
        seed: seeds it.
    """
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    config.task_type = "CAUSAL_LM"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += scale * torch.randn_like(parameter)
    model.save_pretrained(str(folder))
    try:
        merged = model.merge_and_unload()
    except (AttributeError, NotImplementedError, ValueError, RuntimeError):  # no merged form, or none that peft knows
        return {}
    return {name: tensor.clone() for name, tensor in merged.state_dict().items()}


def prepared_adapter(method: Any, base: Path, *, scale: float = 0.05, seed: int = 0) -> Any:
    """Returns a base with a method's adapter, its trained weights shifted at random, options as in small_options.py.

    Args:
        method: the method.
        base: a model folder.
        scale: standard deviation of what is added to each trained parameter; 0 leaves the method's start.
        seed: seeds it and the start; the examples that the start may look at are always the same.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from peft_eval.methods.method import Course
    from tests.small_options import small_options

    def examples(count: int) -> Any:
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(3, 300, (min(count, 16), 24), generator=generator)
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        options = method.fit(model, method.options(**small_options(method)))
        if hasattr(method, "prepare_in"):
            course = Course(steps=20, examples=examples)
            prepared = method.prepare_in(model, options, base_id=str(base), course=course)
        else:
            prepared = method.prepare(model, options, base_id=str(base))
        for parameter in prepared.parameters():
            if parameter.requires_grad:
                parameter.data += scale * torch.randn_like(parameter)
    return prepared
