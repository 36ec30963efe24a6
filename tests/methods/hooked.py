"""Blocks put on a plain model by forward hooks: what an engine does with them, in the fewest words."""

from __future__ import annotations

from typing import Any

import torch
from transformers.activations import ACT2FN

from peft_eval.methods.tuner import Block


def apply_blocks(model: Any, blocks: list[Block]) -> None:
    """Registers each block on the model's own modules."""
    for block in blocks:
        inputs: dict[str, torch.Tensor] = {}
        entry = model.get_submodule(block.entry or block.module)
        entry.register_forward_pre_hook(_keep(inputs), with_kwargs=True)
        model.get_submodule(block.module).register_forward_hook(_add(block, inputs))


def _keep(inputs: dict[str, torch.Tensor]) -> Any:
    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs["h"] = args[0] if args else kwargs["hidden_states"]

    return hook


def _add(block: Block, inputs: dict[str, torch.Tensor]) -> Any:
    def hook(module: Any, args: Any, result: Any) -> Any:
        output = result[0] if isinstance(result, tuple) else result
        h = inputs["h"] if block.reads == "input" else output
        inner = ACT2FN[block.activation](torch.nn.functional.linear(h, block.down, block.down_bias))
        output = output + block.scale * torch.nn.functional.linear(inner, block.up, block.up_bias)
        return (output, *result[1:]) if isinstance(result, tuple) else output

    return hook
