"""LoRTA as a peft tuner: five factors held once, of which every adapted layer uses its slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from peft_eval.methods.weight_tuner import WeightConfig, WeightLayer, WeightTuner

# By the last part of a projection's name: query, key, value, output.
MATRICES = (
    ("q_proj", "q", "query"),
    ("k_proj", "k", "key"),
    ("v_proj", "v", "value"),
    ("o_proj", "o", "out_proj", "dense"),
)
_OUTPUT = 3
_ATTENTION = ("attn", "attention")


def matrix_of(name: str) -> int | None:
    """Returns which of attention's four matrices a module is, None if it is none of them."""
    parent, _, leaf = name.rpartition(".")
    if not parent.rpartition(".")[2].lower().endswith(_ATTENTION):
        return None
    return next((index for index, names in enumerate(MATRICES) if leaf in names), None)


@dataclass(frozen=True)
class Dimensions:
    """The tensor's sizes in a base.

    Attributes:
        hidden: width of the residual stream.
        head_dim: width of a head.
        heads: heads of the query.
        layers: names of the attention modules, in order.
    """

    hidden: int
    head_dim: int
    heads: int
    layers: list[str]

    @classmethod
    def of(cls, model: Any, targets: Sequence[str]) -> Dimensions:
        """Reads a base's sizes; `targets` are the adapted projections' names."""
        config = model.config.get_text_config()
        hidden, heads = config.hidden_size, config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or hidden // heads
        return cls(hidden, head_dim, heads, list(dict.fromkeys(name.rpartition(".")[0] for name in targets)))

    def misfit(self, matrix: int | None, inputs: int, outputs: int) -> str | None:
        """Returns why a projection is no slice of the tensor, None if it is one."""
        if matrix is None:
            return "is no query, key, value or output projection of attention by a known name"
        outer, inner = (outputs, inputs) if matrix == _OUTPUT else (inputs, outputs)
        if outer != self.hidden:
            return f"has {outer} at the residual stream's side, whose width is {self.hidden}"
        if inner % self.head_dim or inner > self.heads * self.head_dim:
            return f"has {inner} at the heads' side, which is no number of up to {self.heads} heads of {self.head_dim}"
        return None


@dataclass
class LortaConfig(WeightConfig):
    """A tensor of low CP rank over the attention weights.

    Attributes:
        rank: its rank.
        alpha: scale of the updates, divided by the rank.
        dropout: before an update, while training.
    """

    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "LORTA"  # type: ignore[assignment]  # peft's enum is closed, its tables are not


class LortaLayer(WeightLayer):
    """A projection with its slice of the tensor; the factors are the model's."""

    def __init__(self, base_layer: nn.Module):
        super().__init__(base_layer)
        self.slices: dict[str, _Slice] = {}

    def has(self, adapter: str) -> bool:
        """Tells whether an adapter of this name changes this projection."""
        return adapter in self.slices

    def changed(self, adapters: list[str], x: torch.Tensor) -> torch.Tensor:
        """Returns x Wᵀ + b + x Δᵀ: (..., out)."""
        result = self.base_layer(x)
        for adapter in adapters:
            part = self.slices[adapter]
            shared, heads, hidden, width = part.factors(self.heads_of(part))
            given = functional.dropout(self._cast_input_dtype(x, hidden.dtype), part.config.dropout, self.training)
            if part.matrix == _OUTPUT:
                by_head = given.unflatten(-1, (len(heads), len(width))) @ width
                added = ((by_head * heads).sum(-2) * shared) @ hidden.T
            else:
                by_head = (given @ hidden * shared).unsqueeze(-2) * heads
                added = (by_head @ width.T).flatten(-2)
            result = result + added.to(result.dtype)
        return result

    def delta(self, adapter: str) -> torch.Tensor:
        """Returns the update: (out, in)."""
        part = self.slices[adapter]
        shared, heads, hidden, width = (factor.float() for factor in part.factors(self.heads_of(part)))
        by_head = torch.einsum("wk,hk,dk->hwd", width, heads * shared, hidden).flatten(0, 1)
        return by_head.T if part.matrix == _OUTPUT else by_head

    def heads_of(self, part: _Slice) -> int:
        """Returns how many heads this projection has."""
        return (self.in_features if part.matrix == _OUTPUT else self.out_features) // part.head_dim


@dataclass(frozen=True)
class _Slice:
    """Which slice of which tensor a projection uses, looked up in the tuner, since loading replaces its factors."""

    adapter: str
    config: LortaConfig
    matrix: int
    layer: int
    head_dim: int
    tuner: Any

    def factors(self, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns scale · matrix ⊙ layer (rank,), head (heads, rank), hidden (hidden, rank), width (head_dim, rank)."""
        tuner, name = self.tuner, self.adapter
        shared = tuner.lorta_matrix[name][self.matrix] * tuner.lorta_layer[name][self.layer]
        scale = self.config.alpha / self.config.rank
        return shared * scale, tuner.lorta_head[name][:heads], tuner.lorta_hidden[name], tuner.lorta_width[name]


class LortaModel(WeightTuner):
    """A base with one low-rank tensor for all its attention weights."""

    prefix = "lorta_"
    tuner_layer_cls = LortaLayer

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Makes an adapter's factors, then gives each projection its slice of them."""
        self._add_factors(model, self.peft_config[adapter_name], adapter_name)
        super().inject_adapter(model, adapter_name, *args, **kwargs)

    def _add_factors(self, model: nn.Module, config: Any, adapter_name: str) -> None:
        if not hasattr(self, "lorta_hidden"):
            for factor in ("hidden", "width", "head", "matrix", "layer"):
                setattr(self, f"lorta_{factor}", nn.ParameterDict())
        targets = [
            name for name, _ in model.named_modules() if name and self._check_target_module_exists(config, name) is True
        ]
        self._dimensions = sizes = Dimensions.of(model, targets)
        device = next(model.parameters()).device
        # What is drawn on the CPU is the same on every device.
        rows = {
            "hidden": sizes.hidden,
            "head": sizes.heads,
            "matrix": len(MATRICES),
            "layer": len(sizes.layers),
        }
        for factor, count in rows.items():
            drawn = torch.empty(count, config.rank)
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5))
            self._factor(factor)[adapter_name] = nn.Parameter(drawn.to(device))
        self._factor("width")[adapter_name] = nn.Parameter(torch.zeros(sizes.head_dim, config.rank, device=device))
        for factor in (*rows, "width"):
            self._factor(factor)[adapter_name].requires_grad_(not config.inference_mode)

    def _factor(self, name: str) -> nn.ParameterDict:
        return getattr(self, f"lorta_{name}")

    def add(self, layer: LortaLayer, adapter_name: str, config: Any, name: str) -> None:
        """Gives a projection its slice.

        Raises:
            ValueError: it is no slice of the tensor.
        """
        sizes, matrix = self._dimensions, matrix_of(name)
        fault = sizes.misfit(matrix, layer.in_features, layer.out_features)
        if fault or matrix is None:
            raise ValueError(f"{name} {fault}")
        row = sizes.layers.index(name.rpartition(".")[0])
        layer.slices[adapter_name] = _Slice(adapter_name, config, matrix, row, sizes.head_dim, self)
