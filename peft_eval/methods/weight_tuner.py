"""What our tuners of single modules have in common: wrapping, merging in place, taking the change out again.

A wrapper says in `merged_leaves` which of its module's own parameters merging changes, by their last names. The merger
puts the base's tensors there, calls `merge` and reads them back. One that is None in the base is added (BitFit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, check_adapters_to_merge
from torch import nn
from transformers.pytorch_utils import Conv1D


@dataclass
class WeightConfig(PeftConfig):
    """A change of chosen modules.

    Attributes:
        target_modules: names, ends of names, a regular expression or `all-linear`, as in peft's own configurations.
    """

    target_modules: list[str] | str | None = None


class ModuleLayer(nn.Module, BaseTunerLayer):
    """A module of the base with adapters that change its parameters.

    Subclasses hold an adapter's weights in dictionaries by its name, listed in `adapter_layer_names`.

    Args:
        base_layer: the module.
    """

    merged_leaves: tuple[str, ...] = ("weight",)

    def __init__(self, base_layer: nn.Module):
        super().__init__()
        self.base_layer = base_layer
        self.merged_adapters = []

    def has(self, adapter: str) -> bool:
        """Tells whether an adapter of this name changes this module."""
        return adapter in getattr(self, self.adapter_layer_names[0])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the module computes with the active adapters."""
        if self.disable_adapters or self.merged:
            if self.disable_adapters and self.merged:
                self.unmerge()
            return self.base_layer(*args, **kwargs)
        active = [adapter for adapter in self.active_adapters if self.has(adapter)]
        return self.changed(active, *args, **kwargs)

    def changed(self, adapters: list[str], *args: Any, **kwargs: Any) -> Any:
        """Returns what the module computes with the given adapters."""
        raise NotImplementedError

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Puts adapters into the module's own parameters.

        Args:
            safe_merge: refuse a merge that gives NaN or infinity, and leave the module as it was.
            adapter_names: which; None for the active ones.

        Raises:
            ValueError: `safe_merge` found NaN or infinity.
        """
        for adapter in check_adapters_to_merge(self, adapter_names):
            if self.has(adapter):
                merged = self.merged_parameters(adapter)
                if safe_merge and not all(tensor.isfinite().all() for tensor in merged.values()):
                    raise ValueError(f"merging adapter {adapter} gives NaN or infinity")
                for leaf, tensor in merged.items():
                    _put(self.get_base_layer(), leaf, tensor)
                self.merged_adapters.append(adapter)

    def unmerge(self) -> None:
        """Takes merged adapters out of the module's parameters again, up to rounding."""
        while self.merged_adapters:
            for leaf, tensor in self.unmerged_parameters(self.merged_adapters.pop()).items():
                _put(self.get_base_layer(), leaf, tensor)

    def merged_parameters(self, adapter: str) -> dict[str, torch.Tensor]:
        """Returns the module's parameters with an adapter in them, by leaf name, in float32 or their own dtype."""
        raise NotImplementedError

    def unmerged_parameters(self, adapter: str) -> dict[str, torch.Tensor | None]:
        """Returns the module's parameters without an adapter that is in them; None for one that it added."""
        raise NotImplementedError


class WeightLayer(ModuleLayer):
    """A linear layer (`nn.Linear` or GPT-2's transposed `Conv1D`) with W + delta for its weight W: (out, in)."""

    def __init__(self, base_layer: nn.Module):
        super().__init__(base_layer)
        linear = self.linear
        self.transposed = isinstance(linear, Conv1D)
        if not self.transposed and not isinstance(linear, nn.Linear):
            raise ValueError(f"a {type(linear).__name__} is no linear layer, so its weight cannot be changed")
        shape = tuple(linear.weight.shape)
        self.out_features, self.in_features = reversed(shape) if self.transposed else shape

    @property
    def linear(self) -> Any:
        """The base's linear layer."""
        return self.get_base_layer()

    def delta(self, adapter: str) -> torch.Tensor:
        """Returns what an adapter adds to the weight: (out, in), float32."""
        raise NotImplementedError

    def merged_weight(self, adapter: str, weight: torch.Tensor) -> torch.Tensor:
        """Returns a weight (out, in), float32, with an adapter in it."""
        return weight + self.delta(adapter)

    def unmerged_weight(self, adapter: str, weight: torch.Tensor) -> torch.Tensor:
        """Returns a weight (out, in), float32, without an adapter that is in it."""
        return weight - self.delta(adapter)

    def merged_parameters(self, adapter: str) -> dict[str, torch.Tensor]:
        """Returns the weight with an adapter in it, rounded once."""
        return {"weight": self._as_stored(self.merged_weight(adapter, self._weight()))}

    def unmerged_parameters(self, adapter: str) -> dict[str, torch.Tensor | None]:
        """Returns the weight without an adapter."""
        return {"weight": self._as_stored(self.unmerged_weight(adapter, self._weight()))}

    def _weight(self) -> torch.Tensor:
        stored = self.linear.weight.data.float()
        return stored.T if self.transposed else stored

    def _as_stored(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.T if self.transposed else weight


class WeightTuner(BaseTuner):
    """A peft tuner that wraps the modules its configuration names."""

    target_module_mapping: dict[str, list[str]] = {}
    tuner_layer_cls: type[ModuleLayer] = ModuleLayer

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        return peft_config

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
        layer = target if isinstance(target, ModuleLayer) else self.tuner_layer_cls(target)
        setattr(parent, target_name, layer)
        self.add(layer, adapter_name, peft_config, current_key)
        layer._move_adapter_to_device_of_base_layer(adapter_name)
        layer.set_adapter(self.active_adapters, inference_mode=peft_config.inference_mode)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """Puts a module in a wrapper's place; peft's own looks for weights that a norm or a bias layer has not."""
        setattr(parent, child_name, new_module)

    def add(self, layer: Any, adapter_name: str, config: Any, name: str) -> None:
        """Adds an adapter's weights, at their start, to the wrapper of the module called `name`."""
        raise NotImplementedError


def _put(module: nn.Module, leaf: str, tensor: torch.Tensor | None) -> None:
    """Sets a module's own parameter in place, in its own dtype; makes or removes one that the base has not."""
    own = getattr(module, leaf)
    if tensor is None:
        setattr(module, leaf, None)
    elif own is None:
        like: torch.Tensor = module.weight  # type: ignore[assignment]
        setattr(module, leaf, nn.Parameter(tensor.to(like.device, like.dtype), requires_grad=False))
    else:
        own.data.copy_(tensor)
