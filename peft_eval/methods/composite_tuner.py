"""Several adapters of different types as one peft tuner, so that one checkpoint holds them and peft loads it.

The parts are peft's tuners and ours, each injected into the same base by its own code. Those that change single
modules come first, those that wrap whole sublayers last: peft does not look inside of what is wrapped already.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, cast_adapter_dtype
from torch import nn

from peft_eval.errors import ConfigError
from peft_eval.methods.sublayer_tuner import SublayerAdapter
from peft_eval.methods.tuner import LateClass

# What a part does not say for itself: it is the whole's.
_OF_THE_WHOLE = ("task_type", "base_model_name_or_path", "revision", "inference_mode")
_STARTS = (True, False, None, "gaussian")


@dataclass
class CompositeConfig(PeftConfig):
    """The parts' configurations as their own `adapter_config.json` would have them."""

    parts: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "COMPOSITE"  # type: ignore[assignment]  # as for every tuner of ours


def part_of(config: PeftConfig) -> dict[str, Any]:
    """Returns a configuration as a part of a composition, in what JSON can hold."""
    fields = {key: value for key, value in config.to_dict().items() if key not in _OF_THE_WHOLE}
    return json.loads(json.dumps(fields, default=sorted))


class CompositeModel(BaseTuner):
    """A base with adapters of several types."""

    prefix = ""
    tuner_layer_cls = BaseTunerLayer
    target_module_mapping: dict[str, list[str]] = {}
    # A tuple, so that torch does not see the parts' tuners, each of which has the base as a submodule.
    tuners: tuple[BaseTuner, ...] = ()

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Puts every part into the base.

        Raises:
            ConfigError: the parts cannot be one adapter.
        """
        whole: Any = self.peft_config[adapter_name]
        configs = _configs_of(whole)
        if self.tuners and [_tuner_class(config) for config in configs] != [type(tuner) for tuner in self.tuners]:
            raise ConfigError(f"adapter {adapter_name!r} has other parts than the adapters before it")
        for number, config in enumerate(configs):
            before = {id(module) for module in model.modules() if isinstance(module, BaseTunerLayer)}
            if len(self.tuners) > number:
                self.tuners[number].peft_config[adapter_name] = config
                with contextlib.nullcontext() if _wraps_sublayers(config) else _without_wrappers(model):
                    self.tuners[number].inject_adapter(model, adapter_name, low_cpu_mem_usage=low_cpu_mem_usage)
            else:
                tuner = _tuner_class(config)(model, {adapter_name: config}, adapter_name, low_cpu_mem_usage)
                self.tuners = (*self.tuners, tuner)
            model.__dict__.pop("peft_config", None)  # which the next part would take for its own
            _refuse_overlap(model, config, before)
        whole.parts = [part_of(config) for config in configs]
        model.peft_config = self.peft_config  # type: ignore[assignment]  # as every tuner of peft leaves it

    def _create_and_replace(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("the parts replace modules, the whole does not")

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        """Casts the adapters to float32, but not where a part copies layers of the base (LN tuning)."""
        copying = tuple(
            tuner.tuner_layer_cls
            for tuner in self.tuners
            if type(tuner)._cast_adapter_dtype is not BaseTuner._cast_adapter_dtype
        )
        copies = [
            getattr(layer, name)[adapter_name]
            for layer in self.model.modules()
            if isinstance(layer, copying)
            for name in layer.adapter_layer_names
            if adapter_name in getattr(layer, name)
        ]
        dtypes = [next(copy.parameters()).dtype for copy in copies]
        cast_adapter_dtype(self.model, adapter_name, autocast_adapter_dtype)
        for copy, dtype in zip(copies, dtypes, strict=True):
            copy.to(dtype)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        progressbar: bool = False,
        safe_merge: bool = False,
        adapter_names: list[str] | None = None,
    ) -> Any:
        wrappers = [module for module in self.model.modules() if isinstance(module, SublayerAdapter)]
        if merge and wrappers:
            wrappers[0].merge()  # raises, before anything is merged
        while any(isinstance(module, BaseTunerLayer) for module in self.model.modules()):
            super()._unload_and_optionally_merge(merge, progressbar, safe_merge, adapter_names)
        for tuner in self.tuners:
            if hasattr(type(tuner), "after_unloading"):
                tuner.after_unloading()
        return self.model

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)

    def delete_adapter(self, adapter_name: str) -> None:
        """Deletes an adapter's every part."""
        for tuner in self.tuners:
            tuner.delete_adapter(adapter_name)
        del self.peft_config[adapter_name]
        self.active_adapter = self.tuners[0].active_adapter

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """Makes an adapter's every part the active one."""
        super().set_adapter(adapter_name, inference_mode)
        for tuner in self.tuners:
            tuner.active_adapter = adapter_name


def _configs_of(whole: CompositeConfig) -> list[PeftConfig]:
    """Returns the parts' configurations, those that wrap whole sublayers last."""
    classes: dict[Any, Any] = PEFT_TYPE_TO_CONFIG_MAPPING
    common = {name: getattr(whole, name) for name in _OF_THE_WHOLE}
    configs: list[PeftConfig] = []
    for part in whole.parts:
        if part.get("peft_type") not in classes:
            raise ConfigError(f"peft knows no adapter type {part.get('peft_type')!r}", place="parts")
        configs.append(classes[part["peft_type"]](**{**part, **common}))
    refuse_parts(configs)
    return sorted(configs, key=_wraps_sublayers)


def _wraps_sublayers(config: PeftConfig) -> bool:
    layer = _tuner_class(config).tuner_layer_cls
    return isinstance(layer, type) and issubclass(layer, SublayerAdapter) and layer.wraps_sublayers


@contextlib.contextmanager
def _without_wrappers(model: nn.Module) -> Iterator[None]:
    """Takes the wrappers of whole sublayers off for a while, so that peft finds the modules within."""
    taken: list[tuple[nn.Module, str, SublayerAdapter]] = []
    while found := next(_sublayer_wrappers(model), None):
        name, wrapper = found
        parent, _, leaf = name.rpartition(".")
        taken.append((model.get_submodule(parent), leaf, wrapper))
        setattr(model.get_submodule(parent), leaf, wrapper.base_layer)
    yield
    for owner, leaf, wrapper in reversed(taken):
        wrapper.base_layer = getattr(owner, leaf)
        setattr(owner, leaf, wrapper)


def _sublayer_wrappers(model: nn.Module) -> Iterator[tuple[str, SublayerAdapter]]:
    for name, module in model.named_modules():
        if isinstance(module, SublayerAdapter) and module.wraps_sublayers:
            yield name, module


def _tuner_class(config: PeftConfig) -> Any:
    classes: dict[Any, Any] = PEFT_TYPE_TO_TUNER_MAPPING
    found = classes[config.peft_type]
    return found.resolved if isinstance(found, LateClass) else found


def refuse_parts(configs: Sequence[PeftConfig]) -> None:
    """Raises ConfigError for parts that cannot be one adapter, and says which and why."""
    types = [_type_of(config) for config in configs]
    for config, kind in zip(configs, types, strict=True):
        tuner = _tuner_class(config)
        start = getattr(config, "init_lora_weights", None)
        reason = None
        if config.is_prompt_learning:
            reason = (
                "it is put before the input by peft itself; `prefix` and `prefix_flat` can be part of a composition"
            )
        elif not (isinstance(tuner, type) and issubclass(tuner, BaseTuner)):
            reason = "it does not wrap modules"
        elif tuner.uses_shared_state:
            reason = "its layers share weights that stand outside of them"
        elif hasattr(tuner, "update_and_allocate"):
            reason = "it changes its shape while training"
        elif start not in _STARTS:
            reason = f"its start {start!r} changes the base or looks at data"
        elif getattr(config, "modules_to_save", None):
            reason = "it saves whole modules"
        elif types.count(kind) > 1:
            reason = "there are two of this type, which one checkpoint cannot tell apart"
        if reason:
            raise ConfigError(f"{kind} cannot be part of a composition: {reason}", place="--method")


def _refuse_overlap(model: nn.Module, config: PeftConfig, before: set[int]) -> None:
    """Raises ConfigError if a part has wrapped a module that another part changes; around sublayers that is fine."""
    for name, module in model.named_modules():
        new = isinstance(module, BaseTunerLayer) and id(module) not in before
        inner = getattr(module, "base_layer", None)
        if new and isinstance(inner, BaseTunerLayer) and not getattr(module, "wraps_sublayers", False):
            raise ConfigError(
                f"{name} would be changed by two parts, {_type_of(config)} and {type(inner).__module__.split('.')[-2]}",
                place="--method",
                remedy="give them different targets",
            )


def _type_of(config: PeftConfig) -> str:
    return str(getattr(config.peft_type, "value", config.peft_type))
