"""SSL and SSB as a peft tuner: W becomes diag(e) · W · diag(d)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peft_eval.methods.weight_tuner import WeightConfig, WeightLayer, WeightTuner


@dataclass
class SubspaceScalingConfig(WeightConfig):
    """Scales of a weight's inputs and outputs.

    Attributes:
        scales_outputs: whether outputs have a scale, too.
    """

    scales_outputs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "SUBSPACE_SCALING"  # type: ignore[assignment]  # peft's enum is closed, its tables are not


class SubspaceScalingLayer(WeightLayer):
    """A linear layer with scales, `scaling_inputs` (in,) and `scaling_outputs` (out,)."""

    adapter_layer_names = ("scaling_inputs", "scaling_outputs")

    def __init__(self, base_layer: nn.Module):
        super().__init__(base_layer)
        self.scaling_inputs = nn.ParameterDict()
        self.scaling_outputs = nn.ParameterDict()

    def changed(self, adapters: list[str], x: torch.Tensor) -> torch.Tensor:
        """Returns ((x ⊙ d) Wᵀ) ⊙ e + b: (..., out)."""
        for adapter in adapters:
            x = (x * self.scaling_inputs[adapter]).to(x.dtype)
        result = self.base_layer(x)
        scaled = [adapter for adapter in adapters if adapter in self.scaling_outputs]
        if not scaled:
            return result
        bias = self.get_base_layer().bias
        for adapter in scaled:
            scale = self.scaling_outputs[adapter]
            change = result * scale if bias is None else (result - bias) * scale + bias
            result = change.to(result.dtype)
        return result

    def merged_weight(self, adapter: str, weight: torch.Tensor) -> torch.Tensor:
        """Returns diag(e) · W · diag(d)."""
        weight = weight * self.scaling_inputs[adapter]
        return weight * self.scaling_outputs[adapter][:, None] if adapter in self.scaling_outputs else weight

    def unmerged_weight(self, adapter: str, weight: torch.Tensor) -> torch.Tensor:
        """Returns W again.

        Raises:
            ValueError: a scale is 0, so that what it scaled is lost.
        """
        weight = weight / _nonzero(self.scaling_inputs[adapter])
        if adapter in self.scaling_outputs:
            weight = weight / _nonzero(self.scaling_outputs[adapter])[:, None]
        return weight


def _nonzero(scale: torch.Tensor) -> torch.Tensor:
    if not scale.all():
        raise ValueError("a scale is 0, so the weight that it was merged into cannot be had back")
    return scale


class SubspaceScalingModel(WeightTuner):
    """A base with scaled weights."""

    prefix = "scaling_"
    tuner_layer_cls = SubspaceScalingLayer

    def add(self, layer: SubspaceScalingLayer, adapter_name: str, config: Any, name: str) -> None:
        """Adds scales of 1."""
        layer.scaling_inputs[adapter_name] = nn.Parameter(torch.ones(layer.in_features))
        if config.scales_outputs:
            layer.scaling_outputs[adapter_name] = nn.Parameter(torch.ones(layer.out_features))
