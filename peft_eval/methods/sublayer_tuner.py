"""What our tuners beside whole sublayers have in common: bottlenecks, Compacter, prefixes.

The module at the sublayer's end is wrapped, as peft wraps a linear layer: the wrapper is a `BaseTunerLayer` with
the module as its `base_layer`, so that peft's saving, loading, switching and disabling work as for its own types.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from peft_eval.methods.sublayers import Sublayer, find_sublayers


class SublayerAdapter(nn.Module, BaseTunerLayer):
    """A module of the base with what adapters add to its output.

    Subclasses hold their weights in dictionaries by adapter name, listed in `adapter_layer_names`; every adapter
    of a layer is in the first of them. Several active adapters all see the base's output, and what they add is summed.

    Args:
        base_layer: the module at the sublayer's end.
        entry: the module at its beginning, if that is another one.
    """

    method = "an adapter beside a sublayer"
    wraps_sublayers = True  # and not single modules within them

    def __init__(self, base_layer: nn.Module, entry: nn.Module | None = None):
        super().__init__()
        self.base_layer = base_layer
        self.merged_adapters = []
        self._input: torch.Tensor | None = None
        self._hook = entry.register_forward_pre_hook(self._remember, with_kwargs=True) if entry is not None else None

    def _remember(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._input = hidden_states(args, kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the base module's output, its first tensor changed: (batch, tokens, hidden) or (tokens, hidden)."""
        result = self.base_layer(*args, **kwargs)
        given, self._input = (hidden_states(args, kwargs), None) if self._hook is None else (self._input, None)
        if self.disable_adapters or not self.active_adapters:
            return result
        output = result[0] if isinstance(result, tuple) else result
        changed = output
        for adapter in self.active_adapters:
            if adapter in getattr(self, self.adapter_layer_names[0]):
                changed = changed + self.change(adapter, output, given).to(output.dtype)
        return (changed, *result[1:]) if isinstance(result, tuple) else changed

    def change(self, adapter: str, output: torch.Tensor, given: Any) -> torch.Tensor:
        """Returns what an adapter adds to `output`, of the same shape.

        Args:
            adapter: the adapter's name.
            output: the sublayer's output.
            given: the sublayer's input, of the same shape.
        """
        raise NotImplementedError

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuses, in words that tell why."""
        raise NotImplementedError(f"{self.method} is no change of a weight, so it has no merged form")

    def unmerge(self) -> None:
        """Refuses: there is nothing merged."""
        raise NotImplementedError(f"{self.method} has no merged form")

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Returns the wrapped module as it was; peft calls this to take adapters off a model."""
        if merge:
            self.merge()
        if self._hook is not None:
            self._hook.remove()
        if isinstance(self.base_layer, SublayerAdapter):
            return self.base_layer.unload_and_optionally_merge_module(merge, safe_merge, adapter_names)
        return self.get_base_layer()

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[Any, Any]:
        """Lets peft place weights that it loads late: a sublayer has no `weight` of its own to ask."""
        weights = list(base_layer.parameters())
        floating = next((weight for weight in weights if weight.is_floating_point()), None)
        return (weights[0].device if weights else None), (floating.dtype if floating is not None else None)


def hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Returns what a module of the base was called with, (batch, tokens, hidden) or (tokens, hidden)."""
    return args[0] if args else kwargs["hidden_states"]


class SublayerTuner(BaseTuner):
    """A peft tuner that wraps the ends of sublayers.

    Its configuration has `positions`, the kinds of sublayers, and `target_modules`, their ends' names, which are
    found in the base where they are not given.
    """

    target_module_mapping: dict[str, list[str]] = {}
    tuner_layer_cls = SublayerAdapter

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        return peft_config

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        self._sublayers = self._targets(peft_config, find_sublayers(model))
        if peft_config.target_modules is None:
            peft_config.target_modules = list(self._sublayers)

    def _targets(self, peft_config: Any, sublayers: list[Sublayer]) -> dict[str, Sublayer]:
        """Returns the sublayers to adapt by the name of the module to wrap."""
        return {sublayer.exit: sublayer for sublayer in sublayers if sublayer.kind in peft_config.positions}

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if not isinstance(target, self.tuner_layer_cls):
            wrapper = self.wrap(peft_config, target, current_key)
            self._replace_module(parent, target_name, wrapper, target)
            target = wrapper
        self.add(target, adapter_name, peft_config)
        target._move_adapter_to_device_of_base_layer(adapter_name)
        target.set_adapter(self.active_adapters, inference_mode=peft_config.inference_mode)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        """Puts a module in a wrapper's place; peft's own would look for its `weight`, which a sublayer has not."""
        setattr(parent, child_name, new_module)

    def wrap(self, config: Any, module: nn.Module, name: str) -> SublayerAdapter:
        """Returns the wrapper of the module of that name, without adapters yet."""
        sublayer = self._sublayers[name]
        entry = self.model.get_submodule(sublayer.entry) if sublayer.entry != sublayer.exit else None
        return self.tuner_layer_cls(module, entry)

    def add(self, layer: Any, adapter_name: str, config: Any) -> None:
        """Adds an adapter's weights, at their start, to a wrapper."""
        raise NotImplementedError

    def _unload_and_optionally_merge(self, *args: Any, **kwargs: Any) -> Any:
        base = super()._unload_and_optionally_merge(*args, **kwargs)
        self.after_unloading()
        return base

    def after_unloading(self) -> None:
        """Undoes what the tuner did to the base beside wrapping its modules."""

    @property
    def hidden_size(self) -> int:
        """The width of the base's residual stream."""
        return self.model.config.get_text_config().hidden_size
