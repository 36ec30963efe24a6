"""A layer's change as W + s·B·A: the form that can be added to any rows of W alone.

Merging such a layer needs no more memory than the rows at hand. The arithmetic is peft's own
(`peft.tuners.lora.layer.Linear.get_delta_weight`): product, scale, sum, each in float32. Only the product's last bit
may differ, which the matrix library rounds as the number of rows suggests to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora.layer import Linear

# Numbers that are worked on at once: a few MB in float32, which a core's cache holds.
_NUMBERS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class LowRankChange:
    """A change of one weight.

    Attributes:
        down: A, float32 (rank, inputs).
        up: B, float32 (outputs, rank).
        scale: s.
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: float

    @classmethod
    def of(cls, layer: Any, adapter: str) -> LowRankChange | None:
        """Returns the change of one of peft's layers, None if it has another form."""
        if type(layer) is not Linear or adapter not in layer.lora_A or layer.fan_in_fan_out:
            return None
        if adapter in layer.lora_variant or layer.lora_bias.get(adapter):
            return None
        down, up = layer.lora_A[adapter].weight.data, layer.lora_B[adapter].weight.data
        if down.dtype is not torch.float32 or up.dtype is not torch.float32:
            return None
        return cls(down, up, float(layer.scaling[adapter]))

    @torch.no_grad()
    def add_to(self, rows: torch.Tensor, first: int, out: torch.Tensor) -> None:
        """Writes the merged rows.

        Args:
            rows: the base's rows, (n, inputs), any dtype.
            first: the number of the first of them in the weight.
            out: where to, (n, inputs), any dtype; may be `rows`.
        """
        count, width = rows.shape
        step = min(count, max(1, _NUMBERS_AT_ONCE // width))
        weight = torch.empty(step, width)
        change = torch.empty(step, width)
        for begin in range(0, count, step):
            n = min(step, count - begin)
            weight[:n].copy_(rows[begin : begin + n])
            torch.mm(self.up[first + begin : first + begin + n], self.down, out=change[:n])
            weight[:n].add_(change[:n].mul_(self.scale))
            out[begin : begin + n].copy_(weight[:n])
