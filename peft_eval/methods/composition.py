"""Methods made of others: `--method lora+pfeiffer`, and the papers' hybrids as settings of the same.

| name | is | with |
|---|---|---|
| mam | prefix + parallel | prefix network of width 800 (arXiv 2110.04366) |
| unipelt | lora + prefix + pfeiffer, gated | lora rank 8 on q and v, prefix of 10 (arXiv 2110.07577) |

The defaults are those of arXiv 2303.15647's code, the adapters library's (PROTOCOLS B). Every option of a part is an
option of the whole after the part's name: `lora_rank`, `pfeiffer_size`; `gated` puts a gate on every part.

A gate is sigmoid(w · h + b) of what its part reads, UniPELT's section 3.3, w drawn from N(0, 0.02²), with one
difference: UniPELT and the adapters library average a gate over the tokens of a sequence, which in a decoder lets a
token see those after it, and gives another number when text is generated token by token. Here each token has its own.
So a sequence of one token is as theirs, and a longer one is not.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, create_model, model_validator

from peft_eval.errors import ConfigError, PeftEvalError, raise_all, unknown_name
from peft_eval.methods.bottleneck import TRAINING_DEFAULTS, wrapped
from peft_eval.methods.method import Method, MethodOptions
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COMPOSITE = Tuner(
    peft_type="COMPOSITE",
    config="peft_eval.methods.composite_tuner:CompositeConfig",
    model="peft_eval.methods.composite_tuner:CompositeModel",
    prefix="",
)
GATED_LORA = Tuner(
    peft_type="GATED_LORA",
    config="peft_eval.methods.gated_lora_tuner:GatedLoraConfig",
    model="peft_eval.methods.gated_lora_tuner:GatedLoraModel",
    prefix="gated_lora_",
)
SIGN = "+"


class CompositionOptions(MethodOptions):
    """Base of a composition's options, which are made from its parts'."""

    gated: bool = Field(False, description="Put a gate on every part.")

    @classmethod
    def parts(cls) -> Mapping[str, tuple[type[MethodOptions], Mapping[str, Any]]]:
        """Returns each part's options and its other defaults, by the part's name."""
        raise NotImplementedError

    def of_part(self, name: str) -> dict[str, Any]:
        """Returns what is set for a part: its other defaults, and over them what was given."""
        options, defaults = type(self).parts()[name]
        given = {key for key in options.model_fields if f"{name}_{key}" in self.model_fields_set}
        return {**defaults, **{key: getattr(self, f"{name}_{key}") for key in given}}

    @model_validator(mode="after")
    def _fits_each_part(self) -> CompositionOptions:
        for name, (options, _) in type(self).parts().items():
            try:
                resolved = options.model_validate(self.of_part(name))
            except ValidationError as error:
                faults = (
                    ".".join([f"{name}_{fault['loc'][0]}" if fault["loc"] else name]) + f": {fault['msg']}"
                    for fault in error.errors()
                )
                raise ValueError("; ".join(faults)) from None
            for key, value in resolved.model_dump().items():
                object.__setattr__(self, f"{name}_{key}", value)  # frozen from here on
        return self


class Composition:
    """Several methods trained and saved as one adapter.

    Args:
        name: its name.
        summary: one line on it.
        parts: the methods.
        defaults: other defaults than the parts' own, by part and option.
        gated: whether every part has a gate unless said otherwise.
        source: the paper.
    """

    kind: Literal["adapter", "full"] = "adapter"

    def __init__(
        self,
        name: str,
        summary: str,
        parts: Iterable[Method],
        *,
        defaults: Mapping[str, Mapping[str, Any]] | None = None,
        gated: bool = False,
        source: str = "",
    ):
        self.name, self.summary, self.source = name, summary, source
        self.parts = {part.name: part for part in parts}
        self.training_defaults: Mapping[str, Any] = TRAINING_DEFAULTS
        self.tuners = (COMPOSITE, GATED_LORA) if "lora" in self.parts else (COMPOSITE,)
        self._defaults, self._gated = defaults or {}, gated

    @functools.cached_property
    def options(self) -> type[MethodOptions]:
        """The model of its options: those of the parts, each after its part's name."""
        return _options_of(self.name, self.parts, self._defaults, self._gated)

    def fit(self, model: PreTrainedModel, options: Any) -> Any:
        """Lets every part resolve its options against the base.

        Raises:
            ConfigError, ManyErrors: what the parts refuse, or parts that cannot be one adapter.
        """
        changes: dict[str, Any] = {}
        errors: list[PeftEvalError] = []
        for name, part in self.parts.items():
            try:
                fitted = part.fit(model, part.options(**options.of_part(name)))
            except PeftEvalError as error:
                errors.append(error)
            else:
                changes |= {f"{name}_{key}": value for key, value in fitted.model_dump().items()}
        raise_all(errors)
        return options.model_copy(update=changes)

    def prepare(self, model: PreTrainedModel, options: Any, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` whose parts alone are trained, in float32.

        Raises:
            ConfigError: the parts cannot be one adapter, or a part has no gate.
        """
        from peft_eval.methods.composite_tuner import CompositeConfig, part_of, refuse_parts
        from peft_eval.methods.tuner import register_all

        register_all()
        configs = [_config_of(part, model, part.options(**options.of_part(name))) for name, part in self.parts.items()]
        if options.gated:
            configs = [_gated(config) for config in configs]
        refuse_parts(configs)
        return wrapped(model, CompositeConfig(parts=[part_of(config) for config in configs]), base_id)


def _options_of(
    name: str, parts: Mapping[str, Method], defaults: Mapping[str, Mapping[str, Any]], gated: bool
) -> type[MethodOptions]:
    fields: dict[str, Any] = {}
    for part, method in parts.items():
        for key, field in method.options.model_fields.items():
            field = copy.copy(field)
            if key in defaults.get(part, {}):
                field.default = defaults[part][key]
            fields[f"{part}_{key}"] = (field.annotation, field)
    known = {part: (method.options, defaults.get(part, {})) for part, method in parts.items()}
    fields["gated"] = (bool, Field(gated, description="Put a gate on every part."))
    built: type[CompositionOptions] = create_model(f"{name}Options", __base__=CompositionOptions, **fields)
    built.parts = classmethod(lambda cls: known)  # type: ignore[method-assign,assignment]
    return built


def _config_of(part: Method, model: PreTrainedModel, options: Any) -> Any:
    """Returns the peft configuration that a part would train with alone."""
    if hasattr(part, "adapter_config"):
        return part.adapter_config(model, options)
    if hasattr(part, "preset"):
        from peft_eval.methods.preparing import peft_config

        return peft_config(part.preset, model, options, steps=None)
    raise ConfigError(f"{part.name} is no adapter that could be part of a composition", place="--method")


def _gated(config: Any) -> Any:
    from peft import LoraConfig

    if hasattr(config, "gated"):
        config.gated = True
        return config
    if not isinstance(config, LoraConfig):
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise ConfigError(
            f"there is no gate for {kind}", place="--gated", remedy="bottlenecks, prefixes and lora have one"
        )
    plain = LoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.target_modules,
        task_type=config.task_type,
        fan_in_fan_out=config.fan_in_fan_out,
    )
    differing = [key for key, value in plain.to_dict().items() if config.to_dict()[key] != value]
    if differing:
        raise ConfigError(f"a gated lora has no {', '.join(differing)}", place="--gated")
    from peft_eval.methods.gated_lora_tuner import GatedLoraConfig

    targets = config.target_modules
    return GatedLoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets if isinstance(targets, str) or targets is None else sorted(targets),
    )


def composed(name: str, known: Mapping[str, Method]) -> Composition | None:
    """Returns the composition that a name such as `lora+pfeiffer` stands for, None if it names none.

    Raises:
        ConfigError: a part is no method, or is named twice.
    """
    if SIGN not in name:
        return None
    parts = [part.strip() for part in name.split(SIGN)]
    for part in parts:
        if part not in known:
            raise unknown_name("method", part, known, place=f"--method {name}")
        if parts.count(part) > 1:
            raise ConfigError(f"{part} is named twice", place=f"--method {name}")
    return Composition(name, f"{' and '.join(parts)} as one adapter", [known[part] for part in parts])


def hybrid_methods(known: Mapping[str, Method]) -> list[Composition]:
    """Returns MAM and UniPELT, made of methods by name."""
    return [
        Composition(
            "mam",
            "prefix and parallel adapter together (MAM)",
            [known["prefix"], known["parallel"]],
            defaults={"prefix": {"mlp_size": 800}},
            source="arXiv 2110.04366",
        ),
        Composition(
            "unipelt",
            "gated LoRA, prefix and adapter together (UniPELT)",
            [known["lora"], known["prefix"], known["pfeiffer"]],
            defaults={"lora": {"rank": 8, "alpha": 8.0, "dropout": 0.0}, "prefix": {"length": 10}},
            gated=True,
            source="arXiv 2110.07577",
        ),
    ]
