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
    if not hasattr(model, "merge_and_unload"):
        return {}
    try:
        merged = model.merge_and_unload()
    except NotImplementedError:  # a tuner without a merged form
        return {}
    return {name: tensor.clone() for name, tensor in merged.state_dict().items()}
