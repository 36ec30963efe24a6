"""Every adapter type of the installed peft as a training method, with its settings as options.

Options and their defaults are read from peft's source (`peft_types`), names and papers from `presets`. Where a
setting means the same in all methods it has one name here: `rank`, `alpha`, `targets`, `dropout`. All others keep
peft's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Optional

from pydantic import Field, create_model, field_validator, model_validator

from peft_eval.errors import ConfigError, PeftEvalError, raise_all
from peft_eval.methods.method import Course, MethodOptions
from peft_eval.methods.peft_types import PeftField, fields_of, peft_type_names
from peft_eval.methods.presets import LOW_RANK, NOT_OFFERED, NOT_OFFERED_BY_TYPE, PRESETS, UNAVAILABLE, Preset
from peft_eval.methods.targets import ALL_LINEAR

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_HOUSE_NAMES = {
    "r": "rank",
    "target_modules": "targets",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "use_rslora": "rslora",
    "use_dora": "dora",
    "init_lora_weights": "init",
}
_RANK = "Rank of the update."
_TARGETS = (
    "Layers to adapt, by the end of their names, one regular expression, or all-linear. "
    "Default: peft's choice for the architecture."
)
# Starts of LoRA that peft knows by name; those that need a look at the training data.
_STARTS = ("default", "gaussian", "pissa", "olora", "eva", "corda", "lora_ga", "orthogonal", "mica")
STARTS_FROM_DATA = ("eva", "corda", "lora_ga")


class PeftOptions(MethodOptions):
    """Base of the options of peft's types: checks that hold wherever the option exists."""

    @field_validator("targets", check_fields=False)
    @classmethod
    def _names_targets(cls, targets: list[str] | None) -> list[str] | None:
        if targets is not None and (not targets or not all(targets)):
            raise ValueError("names no layer")
        if targets and ALL_LINEAR in targets and len(targets) > 1:
            raise ValueError("all-linear cannot be combined with names")
        return targets

    @field_validator("init", check_fields=False)
    @classmethod
    def _known_init(cls, init: str) -> str:
        if init == "loftq":
            raise ValueError(f"{init!r} is not offered: {NOT_OFFERED['loftq_config']}")
        if init not in _STARTS and not re.fullmatch(r"pissa_niter_\d+", init):
            raise ValueError(f"{init!r} is unknown: use one of {', '.join(_STARTS)}, or pissa_niter_N")
        return init

    @model_validator(mode="after")
    def _alpha_defaults_to_rank(self) -> PeftOptions:
        rank = getattr(self, "rank", None)
        if rank is not None and getattr(self, "alpha", rank) is None:
            object.__setattr__(self, "alpha", float(rank))  # frozen from here on
        return self


@dataclass(frozen=True)
class CatalogueMethod:
    """A preset of one of peft's types, as a method.

    Attributes:
        preset: what the name stands for.
    """

    preset: Preset
    kind: Literal["adapter", "full"] = "adapter"

    @property
    def name(self) -> str:
        """The name after `--method`."""
        return self.preset.name

    @property
    def summary(self) -> str:
        """What it trains, and the paper."""
        return self.preset.summary

    @property
    def training_defaults(self) -> Mapping[str, Any]:
        """The method's values for settings of training."""
        return self.preset.training

    @property
    def options(self) -> type[MethodOptions]:
        """The model of its options."""
        return _options_of(self.name)

    def fit(self, model: PreTrainedModel, options: Any) -> Any:
        """Resolves what depends on the base: targets, and sizes that follow from its shape.

        Raises:
            ConfigError, ManyErrors: a target matches nothing or only some layers, the rank exceeds a
                layer's dimension, or what the method needs is not given.
        """
        from peft_eval.methods import fitting

        changes, errors = fitting.fitted(self.preset, model, options)
        raise_all(errors)
        return options.model_copy(update=changes)

    def prepare(self, model: PreTrainedModel, options: Any, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` whose own weights alone are trained, in float32.

        Raises:
            ConfigError: peft cannot put this adapter into this base, or its start needs training data.
        """
        return self.prepare_in(model, options, base_id=base_id, course=None)

    def prepare_in(self, model: PreTrainedModel, options: Any, *, base_id: str, course: Course | None) -> Any:
        """As `prepare`, for a run whose length and data are known."""
        from peft_eval.methods import preparing

        return preparing.prepared(self.preset, model, options, base_id=base_id, course=course)

    def optimizer(
        self, model: Any, options: Any, *, learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer | None:
        """Returns LoRA+'s or LoRA-FA's optimiser, None for AdamW."""
        from peft_eval.methods import preparing

        return preparing.optimizer(self.preset, model, options, learning_rate=learning_rate, weight_decay=weight_decay)

    def penalty(self, model: Any) -> torch.Tensor | None:
        """Returns AdaLoRA's orthogonality penalty, None for all others."""
        from peft_eval.methods import preparing

        return preparing.penalty(self.preset, model)

    def run_state(self, model: Any) -> dict[str, torch.Tensor]:
        """Returns what a run needs to go on beside the adapter's weights; AdaLoRA alone has such."""
        from peft_eval.methods import preparing

        return preparing.run_state(model) if self.preset.peft_type == "ADALORA" else {}

    def load_run_state(self, model: Any, state: dict[str, torch.Tensor]) -> None:
        """Puts back what `run_state` returned."""
        from peft_eval.methods import preparing

        preparing.load_run_state(model, state)

    def after_step(self, model: Any, step: int) -> None:
        """Lets AdaLoRA and AdaMSS move their ranks to where they matter."""
        if hasattr(model.base_model, "update_and_allocate"):
            model.base_model.update_and_allocate(step)


@functools.cache
def catalogue() -> tuple[CatalogueMethod, ...]:
    """Returns a method for every preset, and for every type of the installed peft that has none."""
    installed = set(peft_type_names())
    known = [preset for preset in PRESETS.values() if preset.peft_type in installed]
    named = {preset.peft_type for preset in known if preset.name == preset.peft_type.lower()}
    others = [
        Preset(peft_type.lower(), peft_type, f"peft's {peft_type}", training=LOW_RANK, rank_fits=False)
        for peft_type in sorted(installed - named - set(UNAVAILABLE))
    ]
    return tuple(CatalogueMethod(preset) for preset in (*known, *others))


def unavailable() -> dict[str, str]:
    """Returns the installed peft's types that are no methods, by lower-case name, and why."""
    return {name.lower(): UNAVAILABLE[name] for name in peft_type_names() if name in UNAVAILABLE}


def house_name(peft_type: str, field: str) -> str:
    """Returns the option's name for one of peft's settings."""
    if field == f"{peft_type.lower()}_dropout":
        return "dropout"
    if field == f"{peft_type.lower()}_alpha" and peft_type != "SHADOW":  # there it is the strength of an injection
        return "alpha"
    return _HOUSE_NAMES.get(field, field)


def offered(preset: Preset) -> Iterator[tuple[str, PeftField]]:
    """Yields each setting of peft that is an option of a preset, with the option's name."""
    hidden = NOT_OFFERED_BY_TYPE.get(preset.peft_type, frozenset())
    for name, field in fields_of(preset.peft_type).items():
        switches_the_start_off = name.startswith("init_") and field.annotation is bool and field.default is True
        if not (name in NOT_OFFERED or name in hidden or name in preset.pinned or switches_the_start_off):
            yield house_name(preset.peft_type, name), field


@functools.cache
def _options_of(name: str) -> type[MethodOptions]:
    preset = next(method.preset for method in catalogue() if method.name == name)
    fields: dict[str, Any] = {}
    for option, field in offered(preset):
        fields[option] = _option(preset, option, field)
    for extra in preset.extras:
        fields[extra.name] = (extra.kind, Field(extra.default, ge=extra.least, description=extra.description))
    built: type[MethodOptions] = create_model(
        f"{preset.name.title().replace('_', '')}Options", __base__=PeftOptions, **fields
    )
    return built


def _option(preset: Preset, option: str, field: PeftField) -> tuple[Any, Any]:
    default = preset.defaults.get(option, field.default)
    if option == "rank":
        kind = Optional[int] if default is None else int  # noqa: UP045
        return kind, Field(default, ge=0 if default == 0 else 1, description=_RANK)
    if option == "alpha" and preset.peft_type == "LORA":
        text = "Scale of the update, divided by the rank. Default: the rank."
        return Optional[float], Field(default, gt=0, description=text)  # noqa: UP045
    if option == "dropout":
        return float, Field(default, ge=0, lt=1, description="Dropout before the update.")
    if option == "targets":
        return Optional[list[str]], Field(default, description=_TARGETS)  # noqa: UP045
    if option == "init":
        text = f"Start of the update: {', '.join(_STARTS)} or pissa_niter_N."
        return str, Field(preset.defaults.get("init", "default"), description=text)
    if field.name == "num_virtual_tokens":
        return int, Field(default, ge=1, description=field.help)
    return field.annotation, Field(default, description=field.help)


def setting_errors(preset: Preset, error: Exception) -> PeftEvalError:
    """Returns peft's refusal of a setting or a base as one line."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ConfigError(f"peft refuses it for this base: {reason}", place=f"--method {preset.name}")
