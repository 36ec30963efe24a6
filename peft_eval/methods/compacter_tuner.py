"""Compacter as a peft tuner: bottlenecks whose matrices are sums of Kronecker products (arXiv 2106.04647).

Section 3.2, equations 5 to 7: a layer of `in` inputs and `out` outputs is y = x · W + b with W = Σ_i A_i ⊗ (s_i t_i),
i = 1 .. n. The A_i, (n, n) each, are one parameter of shape (n, n, n) that all layers of the model share; s_i is
(in / n, rank), t_i is (rank, out / n), a layer's own. The shared parameter is kept, and saved, with the first layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peft_eval.methods.bottleneck_tuner import BottleneckConfig, BottleneckLayer, BottleneckModel, dense_block
from peft_eval.methods.tuner import Block

_RULE_STD = 1e-4


@dataclass
class CompacterConfig(BottleneckConfig):
    """Compacter's settings beside a bottleneck's, of which `init` is not used.

    Attributes:
        phm_dim: n, the number of Kronecker products; it divides the hidden size and the bottleneck's.
        phm_rank: rank of the layers' own factors.
    """

    phm_dim: int = 4
    phm_rank: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "COMPACTER"  # type: ignore[assignment]  # as for every tuner of ours


def kronecker_sum(rule: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Returns W = Σ_i A_i ⊗ (s_i t_i), of shape (in, out).

    Args:
        rule: the A_i, (n, n, n).
        left: the s_i, (n, in / n, rank).
        right: the t_i, (n, rank, out / n).
    """
    sides = (rule.shape[1] * left.shape[1], rule.shape[2] * right.shape[2])
    return torch.einsum("ipq,ikr,iro->pkqo", rule, left, right).reshape(sides)


class KroneckerLinear(nn.Module):
    """A layer's own factors and bias; the A_i come with each call. They start as Glorot has it, the bias at zero."""

    def __init__(self, inputs: int, outputs: int, n: int, rank: int):
        super().__init__()
        self.left = nn.Parameter(torch.empty(n, inputs // n, rank))
        self.right = nn.Parameter(torch.empty(n, rank, outputs // n))
        self.bias = nn.Parameter(torch.zeros(outputs))
        for factor in (*self.left.data, *self.right.data):
            nn.init.xavier_normal_(factor)

    def forward(self, inputs: torch.Tensor, rule: torch.Tensor) -> torch.Tensor:
        """Returns x · W + b: (..., in) -> (..., out)."""
        return inputs @ kronecker_sum(rule, self.left, self.right) + self.bias


class CompacterLayer(BottleneckLayer):
    """The end of a sublayer with its Compacter bottlenecks."""

    method = "a Compacter adapter"
    adapter_layer_names: tuple[str, ...] = (*BottleneckLayer.adapter_layer_names, "bottleneck_rule")
    other_param_names: tuple[str, ...] = (*BottleneckLayer.other_param_names, "rule_owners")

    def __init__(self, base_layer: nn.Module, entry: nn.Module | None = None):
        super().__init__(base_layer, entry)
        self.bottleneck_rule = nn.ParameterDict()
        self.rule_owners: dict[str, CompacterLayer] = {}  # no submodules: the first layer owns the rule of all

    def add_adapter(self, name: str, config: Any, hidden: int, owner: CompacterLayer | None = None) -> None:
        """Adds a bottleneck at its start; the first layer, which gets no owner, draws the A_i."""
        if owner is None:
            self.bottleneck_rule[name] = nn.Parameter(_RULE_STD * torch.randn((config.phm_dim,) * 3))
        self.rule_owners[name] = owner or self
        down = KroneckerLinear(hidden, config.size, config.phm_dim, config.phm_rank)
        up = KroneckerLinear(config.size, hidden, config.phm_dim, config.phm_rank)
        self._put(name, config, hidden, down, up)

    def down(self, adapter: str, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the bottleneck before its activation."""
        return self.bottleneck_down[adapter](hidden, self.rule_owners[adapter].bottleneck_rule[adapter])

    def up(self, adapter: str, inner: torch.Tensor) -> torch.Tensor:
        """Returns the bottleneck's output."""
        return self.bottleneck_up[adapter](inner, self.rule_owners[adapter].bottleneck_rule[adapter])


class CompacterModel(BottleneckModel):
    """A base with Compacter bottlenecks."""

    tuner_layer_cls = CompacterLayer

    def add(self, layer: Any, adapter_name: str, config: Any) -> None:
        """Adds a bottleneck, at its start, to a wrapper."""
        wrappers = (module for module in self.model.modules() if isinstance(module, CompacterLayer))
        owner = next((wrapper for wrapper in wrappers if adapter_name in wrapper.bottleneck_rule), None)
        layer.add_adapter(adapter_name, config, self.hidden_size, owner)


def blocks(adapter_config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[Block]:
    """Returns an adapter's bottlenecks in dense form, the Kronecker sums computed.

    Args:
        adapter_config: the content of `adapter_config.json`.
        tensors: the adapter's tensors by their names in the file.
    """
    rule = next(tensor for name, tensor in tensors.items() if name.endswith(".bottleneck_rule"))

    def dense(name: str) -> torch.Tensor:
        return kronecker_sum(rule, tensors[f"{name}.left"], tensors[f"{name}.right"]).T.contiguous()

    stems = [name.removesuffix("bottleneck_down.left") for name in tensors if name.endswith(".bottleneck_down.left")]
    return [
        dense_block(
            stem,
            adapter_config,
            down=dense(f"{stem}bottleneck_down"),
            up=dense(f"{stem}bottleneck_up"),
            down_bias=tensors[f"{stem}bottleneck_down.bias"],
            up_bias=tensors[f"{stem}bottleneck_up.bias"],
            learned_scale=None,
        )
        for stem in stems
    ]
