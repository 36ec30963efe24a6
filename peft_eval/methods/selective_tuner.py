"""Selective training as a peft tuner: trained copies stand in for a module's own parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from peft_eval.methods.weight_tuner import ModuleLayer, WeightConfig, WeightTuner

_KEY = "value_"  # a ParameterDict's keys are attributes, and `weight` alone would hide what a key is in the file


@dataclass
class SelectiveConfig(WeightConfig):
    """Modules whose own parameters are trained, those below them left alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "SELECTIVE"  # type: ignore[assignment]  # peft's enum is closed, its tables are not


class SelectiveLayer(ModuleLayer):
    """Any module with trained values, `selective_values`, of its own parameters; the last active adapter's count."""

    adapter_layer_names = ("selective_values",)

    def __init__(self, base_layer: nn.Module):
        super().__init__(base_layer)
        self.selective_values = nn.ModuleDict()
        self.merged_leaves = tuple(leaf for leaf, _ in self.get_base_layer().named_parameters(recurse=False))
        self._originals: dict[str, dict[str, torch.Tensor | None]] = {}

    def changed(self, adapters: list[str], *args: Any, **kwargs: Any) -> Any:
        """Returns what the module computes with the trained values."""
        if not adapters:
            return self.base_layer(*args, **kwargs)
        own = dict(self.get_base_layer().named_parameters(recurse=False))
        values = {leaf: value.to(own[leaf].dtype) for leaf, value in self._values(adapters[-1]).items()}
        return functional_call(self.base_layer, values, args, kwargs)

    def _values(self, adapter: str) -> dict[str, torch.Tensor]:
        held: Any = self.selective_values[adapter]
        return {leaf: held[_KEY + leaf] for leaf in self.merged_leaves}

    def merged_parameters(self, adapter: str) -> dict[str, torch.Tensor]:
        """Returns the trained values, and keeps the base's."""
        module = self.get_base_layer()
        self._originals[adapter] = {leaf: getattr(module, leaf).data.clone() for leaf in self.merged_leaves}
        return {leaf: value.data for leaf, value in self._values(adapter).items()}

    def unmerged_parameters(self, adapter: str) -> dict[str, torch.Tensor | None]:
        """Returns the base's values as they were."""
        return self._originals.pop(adapter)


class SelectiveModel(WeightTuner):
    """A base of which some parameters are trained."""

    prefix = "selective_"
    tuner_layer_cls = SelectiveLayer

    def add(self, layer: SelectiveLayer, adapter_name: str, config: Any, name: str) -> None:
        """Adds a copy of the module's parameters."""
        own = layer.get_base_layer().named_parameters(recurse=False)
        copies = {_KEY + leaf: nn.Parameter(value.detach().clone()) for leaf, value in own}
        layer.selective_values[adapter_name] = nn.ParameterDict(copies)
