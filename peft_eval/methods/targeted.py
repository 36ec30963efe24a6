"""What our methods on chosen layers have in common: options that name the layers, checks, wrapping.

A method here changes single modules of the base by a peft tuner of ours, so that `PeftModel.from_pretrained` loads
what it saves and the merger merges it tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from peft_eval.errors import ConfigError, PeftEvalError, raise_all
from peft_eval.methods.bottleneck import wrapped
from peft_eval.methods.method import MethodOptions
from peft_eval.methods.targets import ALL_LINEAR, is_regex, linear_shapes, matches, target_errors

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LAYERS = "Linear layers to change, by the end of their names, a regular expression or all-linear."


class TargetedOptions(MethodOptions):
    """Options of a method on chosen linear layers."""

    targets: list[str] = Field([ALL_LINEAR], description=LAYERS)

    @field_validator("targets")
    @classmethod
    def _names_layers(cls, targets: list[str] | None) -> list[str] | None:
        if targets is not None and (not targets or not all(targets)):
            raise ValueError("names no layer")
        if targets and ALL_LINEAR in targets and len(targets) > 1:
            raise ValueError("all-linear cannot be combined with names")
        return targets


class TargetedMethod:
    """A method that changes weights of linear layers; subclasses say which configuration their options are."""

    name: str
    summary: str
    options: type[MethodOptions] = TargetedOptions
    kind: Literal["adapter", "full"] = "adapter"
    training_defaults: Mapping[str, Any] = {
        "learning_rate": 5e-4,
        "weight_decay": 0.01,
        "scheduler": "linear",
        "warmup_ratio": 0.03,
    }

    def fit(self, model: PreTrainedModel, options: Any) -> Any:
        """Resolves the targets against the base's layers.

        Raises:
            ConfigError: the base is quantised, a target matches no linear layer or only those of some blocks, or the
                method's sizes do not fit a layer.
        """
        refuse_quantised(model, self.name)
        targets = options.targets or self.default_targets(model)
        found = matches(model, targets)
        errors = target_errors(model, found)
        linear = linear_shapes(model)
        chosen = [name for names in found.values() for name in names]
        errors += [_not_linear(name) for name in chosen if name not in linear][:1]
        if not errors:
            errors += self.misfits(model, {name: linear[name] for name in chosen}, options)
        raise_all(errors)
        return options.model_copy(update={"targets": targets})

    def default_targets(self, model: PreTrainedModel) -> list[str]:
        """Returns the targets where the options name none."""
        return [ALL_LINEAR]

    def misfits(self, model: PreTrainedModel, shapes: dict[str, tuple[int, int]], options: Any) -> list[PeftEvalError]:
        """Returns why the options do not fit the chosen layers' (in, out)."""
        return []

    def adapter_config(self, model: PreTrainedModel, options: Any) -> Any:
        """Returns the peft configuration of fitted options."""
        raise NotImplementedError

    def prepare(self, model: PreTrainedModel, options: Any, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` of which the method's own weights alone are trained, in float32."""
        return wrapped(model, self.adapter_config(model, options), base_id)


def peft_targets(targets: list[str]) -> str | list[str]:
    """Returns targets as peft's `target_modules`: a string for all linear layers and for a regular expression."""
    return targets[0] if targets == [ALL_LINEAR] or is_regex(targets) else targets


def refuse_quantised(model: PreTrainedModel, method: str) -> None:
    """Raises ConfigError for a base whose weights are quantised, so that they can be neither read nor changed."""
    if getattr(model, "hf_quantizer", None) is not None or getattr(model.config, "quantization_config", None):
        raise ConfigError(
            f"{method} works on the base's own weights, and those of this base are quantised",
            place="--method",
            remedy="take the base as it was before, or --method lora",
        )


def _not_linear(name: str) -> ConfigError:
    return ConfigError(f"{name} is no linear layer", place="--targets", remedy="name linear layers, or all-linear")
