"""Training chosen single weights, as a peft tuner: W with values added at stored places.

What is saved is the places and what was added to each. In memory a step costs one dense weight and one dense gradient
of one layer at a time: the changed weight is made anew in the backward pass instead of being kept for every layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from peft_eval.methods.weight_tuner import WeightConfig, WeightLayer, WeightTuner


@dataclass
class SparseConfig(WeightConfig):
    """Chosen single weights.

    Attributes:
        counts: how many weights of each layer are trained, by the layer's name; those of a layer that `threshold`
            chooses are counted when the adapter is made.
        threshold: weights of smaller magnitude are chosen; None where something else chooses.
        progressive_step: after so many steps, weights that have outgrown the threshold stay as they are.
        rank_penalty: factor of the nuclear norm of one layer's chosen weights, added to the loss.
    """

    counts: dict[str, int] | None = None
    threshold: float | None = None
    progressive_step: int | None = None
    rank_penalty: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "SPARSE_WEIGHTS"  # type: ignore[assignment]  # peft's enum is closed, its tables are not


class SparseLayer(WeightLayer):
    """A linear layer with `sparse_values` added to its weight at `sparse_places`.

    Places count through the weight as it is stored, row by row. Where `sparse_open` is there, only its values train.
    """

    adapter_layer_names = ("sparse_values",)
    other_param_names = ("sparse_places", "sparse_open")

    def __init__(self, base_layer: nn.Module):
        super().__init__(base_layer)
        self.sparse_values = nn.ParameterDict()
        self.sparse_places = BufferDict(persistent=True)
        self.sparse_open = BufferDict(persistent=True)
        self._closed_values: dict[str, torch.Tensor] = {}

    def choose(self, adapter: str, places: torch.Tensor) -> None:
        """Sets which weights an adapter changes: int32 (count,)."""
        if places.numel() != self.sparse_values[adapter].numel():
            raise ValueError(f"{places.numel()} places for {self.sparse_values[adapter].numel()} values")
        self.sparse_places[adapter] = places.to(self.sparse_places[adapter].device, torch.int32)

    def changed(self, adapters: list[str], x: torch.Tensor) -> torch.Tensor:
        """Returns x W'ᵀ + b: (..., out)."""
        linear = self.linear
        if not adapters:
            return self.base_layer(x)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if len(adapters) == 1:
            values, places = self._trained(adapters[0]), self.sparse_places[adapters[0]]
            return _SparseLinear.apply(x, linear.weight, linear.bias, values, places, self.transposed)
        weight = self._weight() + sum(self.delta(adapter) for adapter in adapters)
        return functional.linear(x, weight.to(x.dtype), linear.bias)

    def _trained(self, adapter: str) -> torch.Tensor:
        values = self.sparse_values[adapter]
        if adapter not in self.sparse_open:
            return values
        return torch.where(self.sparse_open[adapter], values, values.detach())

    def delta(self, adapter: str) -> torch.Tensor:
        """Returns the values at their places, zero elsewhere: (out, in)."""
        return self._dense(adapter, self.sparse_values[adapter])

    def chosen_weights(self, adapter: str) -> torch.Tensor:
        """Returns the weight as trained at the chosen places, zero elsewhere: (out, in)."""
        stored = self.linear.weight.detach().flatten()
        base = stored.index_select(0, self.sparse_places[adapter]).float()
        return self._dense(adapter, base + self.sparse_values[adapter])

    def _dense(self, adapter: str, values: torch.Tensor) -> torch.Tensor:
        size = self.in_features * self.out_features
        flat = torch.zeros(size, device=values.device).index_add(0, self.sparse_places[adapter], values.float())
        if self.transposed:
            return flat.view(self.in_features, self.out_features).T
        return flat.view(self.out_features, self.in_features)

    def close_outgrown(self, adapter: str, threshold: float) -> None:
        """Keeps from now on only those weights in training that are still smaller than a threshold."""
        weight = self.chosen_weights(adapter)
        stored = (weight.T if self.transposed else weight).flatten()
        self.sparse_open[adapter] = stored.index_select(0, self.sparse_places[adapter]).abs() < threshold

    @torch.no_grad()
    def restore_closed(self, adapter: str) -> None:
        """Puts weights no longer in training back: the optimiser's momentum and decay still move them."""
        values, is_open = self.sparse_values[adapter], self.sparse_open[adapter]
        kept = self._closed_values.setdefault(adapter, values.detach().clone())
        values.copy_(torch.where(is_open, values, kept))


class SparseModel(WeightTuner):
    """A base of which single weights are trained."""

    prefix = "sparse_"
    tuner_layer_cls = SparseLayer

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if peft_config.counts is None:
            peft_config.counts = {}
        if current_key not in peft_config.counts:
            if peft_config.threshold is None:
                raise ValueError(f"the adapter's configuration has no count for {current_key}")
            base: Any = target.get_base_layer() if isinstance(target, SparseLayer) else target
            peft_config.counts[current_key] = int((base.weight.abs() < peft_config.threshold).sum())
        if peft_config.counts[current_key]:  # a layer of which nothing is chosen stays the base's own
            super()._create_and_replace(peft_config, adapter_name, target, target_name, parent, current_key)

    def add(self, layer: SparseLayer, adapter_name: str, config: Any, name: str) -> None:
        """Adds zeros at the places below the threshold, or at the first ones until others are chosen."""
        count = config.counts[name]
        weight = layer.linear.weight
        layer.sparse_values[adapter_name] = nn.Parameter(torch.zeros(count))
        places = torch.arange(count, dtype=torch.int32)
        if config.threshold is not None and not config.inference_mode and weight.device.type != "meta":
            below = (weight.detach().flatten().abs() < config.threshold).nonzero().flatten()
            places = below.to(torch.int32) if below.numel() == count else places  # else a saved one's are loaded
        layer.sparse_places[adapter_name] = places
        if config.progressive_step is not None:
            layer.sparse_open[adapter_name] = torch.ones(count, dtype=torch.bool)


class _SparseLinear(torch.autograd.Function):
    """x (W + values at places)ᵀ + b, keeping neither the changed weight nor a dense gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        values: torch.Tensor,
        places: torch.Tensor,
        transposed: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight, values, places)
        ctx.transposed = transposed
        changed = _at_places(weight, values, places, transposed).to(x.dtype)
        return functional.linear(x, changed, bias.to(x.dtype) if bias is not None else None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        x, weight, values, places = ctx.saved_tensors
        to_x = to_values = None
        if ctx.needs_input_grad[0]:
            to_x = gradient @ _at_places(weight, values, places, ctx.transposed).to(gradient.dtype)
        if ctx.needs_input_grad[3]:
            rows, given = gradient.flatten(0, -2), x.flatten(0, -2)
            whole = given.T @ rows if ctx.transposed else rows.T @ given
            to_values = whole.flatten().index_select(0, places).to(values.dtype)
        return to_x, None, None, to_values, None, None


def _at_places(weight: torch.Tensor, values: torch.Tensor, places: torch.Tensor, transposed: bool) -> torch.Tensor:
    """Returns (out, in): a weight with values added, each sum rounded once to the weight's dtype."""
    flat = weight.detach().flatten().clone()
    sums = flat.index_select(0, places).float() + values.float()
    changed = flat.index_copy_(0, places.long(), sums.to(flat.dtype)).view_as(weight)
    return changed.T if transposed else changed


def sparse_layers(model: Any) -> dict[str, SparseLayer]:
    """Returns a model's sparse layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SparseLayer)}
