"""Bottlenecks in the form in which vLLM serves them: read from an adapter, and as modules in the engine's dtype."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import linear

from peft_eval.checkpoint.reading import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_json
from peft_eval.errors import CheckpointError, RouteError
from peft_eval.methods.tuner import Block, all_tuners, imported


def finite_tensors(adapter_folder: Path) -> dict[str, torch.Tensor]:
    """Reads an adapter's tensors.

    Raises:
        CheckpointError: one of them is not finite.
    """
    tensors = load_file(adapter_folder / ADAPTER_WEIGHTS)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{name} has NaN or infinity", place=str(adapter_folder), remedy="train it again")
    return tensors


def read_blocks(adapter_folder: Path) -> list[Block]:
    """Returns an adapter in dense form.

    Raises:
        RouteError: its type has no such form, or this adapter of the type has none; the message says why.
        CheckpointError: a tensor is not finite.
    """
    config = read_json(adapter_folder / ADAPTER_CONFIG)
    kind = str(config.get("peft_type", "")).upper()
    tuner = all_tuners().get(kind)
    if tuner is None or tuner.blocks is None:
        raise RouteError(f"{kind} has no form of blocks beside sublayers")
    if config.get("modules_to_save"):
        raise RouteError("it also trains whole modules (modules_to_save)")
    found: list[Block] = imported(tuner.blocks)(config, finite_tensors(adapter_folder))
    modules = [block.module for block in found]
    if not found or len(set(modules)) < len(modules):
        raise RouteError("it has no block, or two beside one module")
    return found


def structure(blocks: Iterable[Block]) -> list[list[Any]]:
    """Returns what a compiled graph depends on, which vLLM's compile cache must tell apart: all but the weights."""
    return [
        [b.module, b.entry, b.reads, b.activation, list(b.down.shape), b.down_bias is None, b.up_bias is None]
        for b in blocks
    ]


class BottleneckBlock(nn.Module):
    """A block in the engine's dtype: (tokens, hidden) -> what is added, (tokens, hidden).

    Its weights are buffers, since vLLM takes every parameter for one that the base's files hold. The factor is
    multiplied into `up`.
    """

    down: torch.Tensor
    up: torch.Tensor
    down_bias: torch.Tensor | None
    up_bias: torch.Tensor | None

    def __init__(self, block: Block, *, dtype: torch.dtype, device: torch.device):
        from transformers.activations import ACT2FN

        super().__init__()
        for name, tensor in _weights(block).items():
            moved = tensor.to(device=device, dtype=dtype).contiguous() if tensor is not None else None
            self.register_buffer(name, moved, persistent=False)
        self.activation = ACT2FN[block.activation]
        [self._structure] = structure([block])

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Returns scale · (up(act(down(h))) + up_bias)."""
        inner = self.activation(linear(hidden_states, self.down, self.down_bias))
        return linear(inner, self.up, self.up_bias)

    def take(self, block: Block) -> bool:
        """Copies another block's weights in place, as a compiled graph needs it; False if its structure differs."""
        if structure([block]) != [self._structure]:
            return False
        for name, tensor in _weights(block).items():
            if tensor is not None:
                getattr(self, name).copy_(tensor)
        return True


def _weights(block: Block) -> dict[str, torch.Tensor | None]:
    up_bias = block.up_bias.float() * block.scale if block.up_bias is not None else None
    return {"down": block.down, "down_bias": block.down_bias, "up": block.up.float() * block.scale, "up_bias": up_bias}
