"""Selective training: some of the base's own parameters are trained, all others stay as they are.

* attn_tuning: everything of the attention modules, cross-attention included. arXiv 2303.15647's code lists it as not
  yet implemented; training attention alone is the method of arXiv 2104.08771 (cross-attention) and of others since.
* layer_tuning: everything of some blocks, or their attention alone. arXiv 2411.16775's code (`layer_tuning`) knows the
  first or last block of the encoder or decoder and trains attention's weights; that is `--first 1 --parts attention`
  and `--last 1 --parts attention`. Blocks count from 0 and through the encoder first.

The adapter's file holds the new values of what was trained. The settings of training are those of full fine-tuning.
Not here: blocks drawn anew while training (LISA), since all that it trains at some time is nearly a whole model.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from peft_eval.errors import ConfigError
from peft_eval.methods.bottleneck import wrapped
from peft_eval.methods.full import FullMethod
from peft_eval.methods.method import MethodOptions
from peft_eval.methods.targeted import refuse_quantised
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SELECTIVE = Tuner(
    peft_type="SELECTIVE",
    config="peft_eval.methods.selective_tuner:SelectiveConfig",
    model="peft_eval.methods.selective_tuner:SelectiveModel",
    prefix="selective_",
)
_BLOCK = re.compile(r"(.*?\.\d+)\.")
_ATTENTION = re.compile(r"(^|\.)([a-z_]*attn|[a-z_]*attention|SelfAttention|EncDecAttention)$")


class AttentionTuningOptions(MethodOptions):
    """attn_tuning has no options of its own."""


class LayerTuningOptions(MethodOptions):
    """layer_tuning's options; without any, the last block is trained."""

    first: int | None = Field(None, ge=1, description="How many blocks are trained, from the first on.")
    last: int | None = Field(None, ge=1, description="How many blocks are trained, the last among them. Default: 1.")
    layers: list[int] | None = Field(None, description="Which blocks are trained, by number from 0.")
    parts: Literal["all", "attention"] = Field("all", description="What of a block is trained: all or attention.")

    @model_validator(mode="after")
    def _says_it_once(self) -> LayerTuningOptions:
        given = [name for name in ("first", "last", "layers") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: give one of them")
        if self.layers is not None and (not self.layers or min(self.layers) < 0):
            raise ValueError("layers must name blocks by numbers from 0")
        if not given:
            object.__setattr__(self, "last", 1)  # frozen from here on
        return self


class SelectiveMethod:
    """A method that trains some of the base's own parameters; subclasses say which modules own them."""

    name: str
    summary: str
    options: type[MethodOptions]
    kind: Literal["adapter", "full"] = "adapter"
    tuners = (SELECTIVE,)
    training_defaults = FullMethod.training_defaults

    def modules(self, model: PreTrainedModel, options: Any) -> list[str]:
        """Returns the names of the modules whose own parameters are trained.

        Raises:
            ConfigError: there are none, or the options do not fit the base.
        """
        raise NotImplementedError

    def fit(self, model: PreTrainedModel, options: Any) -> Any:
        """Checks that the options name something of this base.

        Raises:
            ConfigError: they do not, or the base is quantised.
        """
        refuse_quantised(model, self.name)
        self.modules(model, options)
        return options

    def prepare(self, model: PreTrainedModel, options: Any, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` with trained copies, in float32, of the chosen parameters."""
        from peft_eval.methods.selective_tuner import SelectiveConfig

        return wrapped(model, SelectiveConfig(target_modules=self.modules(model, options)), base_id)


class AttentionTuningMethod(SelectiveMethod):
    """attn_tuning."""

    name = "attn_tuning"
    summary = "attention's own weights"
    source = "arXiv 2104.08771"
    options = AttentionTuningOptions

    def modules(self, model: PreTrainedModel, options: AttentionTuningOptions) -> list[str]:
        """Returns the modules within attention that own parameters."""
        return _owners(model, _attention_modules(model))


class LayerTuningMethod(SelectiveMethod):
    """layer_tuning."""

    name = "layer_tuning"
    summary = "chosen blocks' own weights"
    source = "arXiv 2411.16775"
    options = LayerTuningOptions

    def modules(self, model: PreTrainedModel, options: LayerTuningOptions) -> list[str]:
        """Returns the modules of the chosen blocks that own parameters."""
        attention = _attention_modules(model)
        blocks = list(dict.fromkeys(found[1] for name in attention if (found := _BLOCK.match(name))))
        chosen = [blocks[number] for number in _numbers(options, len(blocks))]
        if options.parts == "all":
            return _owners(model, chosen)
        return _owners(model, [name for name in attention if name.startswith(tuple(f"{block}." for block in chosen))])


def _numbers(options: LayerTuningOptions, count: int) -> list[int]:
    for name in ("first", "last"):
        wanted = getattr(options, name)
        if wanted is not None and wanted > count:
            raise ConfigError(f"the base has {count} blocks, not {wanted}", place=f"--{name}")
    if options.first is not None:
        return list(range(options.first))
    if options.last is not None:
        return list(range(count - options.last, count))
    numbers = sorted(set(options.layers or ()))
    if numbers[-1] >= count:
        raise ConfigError(f"the base has no block {numbers[-1]}", place="--layers", remedy=f"use 0 to {count - 1}")
    return numbers


def _attention_modules(model: PreTrainedModel) -> list[str]:
    names = [name for name, _ in model.named_modules() if _ATTENTION.search(name)]
    outermost = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    if not outermost:
        raise ConfigError(f"no attention module is found in a {type(model).__name__}", place="--method")
    return outermost


def _owners(model: PreTrainedModel, roots: list[str]) -> list[str]:
    """Returns the modules at or below some others that own parameters themselves."""
    prefixes = tuple(f"{root}." for root in roots)
    return [
        name
        for name, module in model.named_modules()
        if (name in roots or name.startswith(prefixes)) and any(True for _ in module.parameters(recurse=False))
    ]
