"""The tuner of `output-scale`, in peft's own terms: W becomes diag(s) · W, with a factor for each output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn


@dataclass
class OutputScaleConfig(PeftConfig):
    """The layers to scale, by the end of their names."""

    target_modules: list[str] | None = None

    def __post_init__(self) -> None:
        """Names the type as peft's tables have it."""
        super().__post_init__()
        self.peft_type = "EXAMPLE_OUTPUT_SCALE"


class OutputScaleLayer(nn.Module, BaseTunerLayer):
    """A linear layer whose outputs are scaled."""

    adapter_layer_names = ("output_scale",)

    def __init__(self, base_layer: nn.Linear):
        super().__init__()
        self.base_layer = base_layer
        self.output_scale = nn.ParameterDict()
        self.merged_adapters = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns s · W x: (..., in) -> (..., out)."""
        result = self.base_layer(x)
        if not self.disable_adapters and not self.merged:
            for name in self.active_adapters:
                result = result * self.output_scale[name].to(result.dtype)
        return result

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Scales the weight's rows instead."""
        for name in adapter_names or self.active_adapters:
            weight = self.base_layer.weight
            weight.data = (weight.data * self.output_scale[name][:, None]).to(weight.dtype)
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Scales them back."""
        while self.merged_adapters:
            weight = self.base_layer.weight
            weight.data = weight.data / self.output_scale[self.merged_adapters.pop()][:, None]


class OutputScaleModel(BaseTuner):
    """A base with scaled layers."""

    prefix = "output_scale"
    tuner_layer_cls = OutputScaleLayer
    target_module_mapping: dict[str, list[str]] = {}

    def _create_and_replace(
        self, peft_config: Any, adapter_name: str, target: Any, target_name: str, parent: nn.Module, current_key: str
    ) -> None:
        if not isinstance(target, OutputScaleLayer):
            layer = OutputScaleLayer(target)
            self._replace_module(parent, target_name, layer, target)
            target = layer
        target.output_scale[adapter_name] = nn.Parameter(torch.ones(target.base_layer.out_features))
        target._move_adapter_to_device_of_base_layer(adapter_name)
        target.set_adapter(self.active_adapters, inference_mode=peft_config.inference_mode)
