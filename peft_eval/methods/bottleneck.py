"""Bottleneck adapters: a small two-layer network beside each sublayer.

| name | after | h | size | activation | scale | start | from |
|---|---|---|---|---|---|---|---|
| adapter | attention, feed-forward | output | 64 | silu | 1 | bert | arXiv 2411.16775's own code (PROTOCOLS A4) |
| houlsby | attention, feed-forward | output | hidden / 16 | silu | 1 | bert | arXiv 1902.00751 |
| pfeiffer | feed-forward | output | hidden / 16 | relu | 1 | bert | arXiv 2005.00247 |
| parallel | feed-forward | input | hidden / 2 | relu | 4 | mam | arXiv 2110.04366 |
| scaled_parallel | feed-forward | input | hidden / 2 | relu | learned | mam | arXiv 2110.04366 |

The last four have the defaults of arXiv 2303.15647's code, which are those of the adapters library (PROTOCOLS B).
With the start `mam` the first step computes what the base computes. With `bert`, the papers' own, it does not quite:
both matrices are N(0, 0.02²), so what is added is about 0.02² · sqrt(size · hidden) times a half of h, some per cent.

What is added goes where the paper's figures have it: to the output of the sublayer before the residual add, and where
the base normalises that output first (Gemma 2 and 3) after the norm. Parallel adapters read what the sublayer reads,
the normalised stream. Left out: the adapters library's pfeiffer reads the sum of output and residual stream, and its
parallel adapter the stream before the norm, which for the BERT-like bases of the papers (norms after the add) is the
same as ours and for today's bases is not; layer norms of the adapter's own, which are off in all of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from peft_eval.errors import ConfigError, unknown_name
from peft_eval.methods.method import MethodOptions
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BOTTLENECK = Tuner(
    peft_type="BOTTLENECK",
    config="peft_eval.methods.bottleneck_tuner:BottleneckConfig",
    model="peft_eval.methods.bottleneck_tuner:BottleneckModel",
    prefix="bottleneck_",
    blocks="peft_eval.methods.bottleneck_tuner:blocks",
)
TRAINING_DEFAULTS: Mapping[str, Any] = {
    "learning_rate": 1e-4,
    "weight_decay": 0.01,
    "scheduler": "linear",
    "warmup_ratio": 0.03,
}
Position = Literal["attention", "ffn"]
Start = Literal["bert", "mam", "houlsby"]
ACTIVATION = "Activation in the bottleneck, as transformers names it."
POSITIONS = "Sublayers with an adapter: attention, ffn."
REDUCTION = "Hidden size divided by the bottleneck's width."
SCALE = "Factor of what is added; learned starts at 1."
START = "First weights: bert N(0, 0.02²), houlsby N(0, 0.01²) cut at 0.02, mam Kaiming and zero: the base."


class SizedOptions(MethodOptions):
    """Options of everything with a bottleneck; a method's own defaults are in its module's table."""

    size: int | None = Field(None, ge=1, description="Width of the bottleneck. Default: the hidden size / --reduction.")
    reduction: float | None = Field(None, gt=0, description=REDUCTION)
    activation: str = Field("silu", description=ACTIVATION)
    adapter_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on what the adapter adds.")
    positions: list[Position] = Field(["attention", "ffn"], description=POSITIONS)

    @field_validator("positions")
    @classmethod
    def _has_a_position(cls, positions: list[Position]) -> list[Position]:
        if not positions:
            raise ValueError("names no sublayer: attention, ffn or both")
        return [one for one in ("attention", "ffn") if one in positions]

    @model_validator(mode="after")
    def _size_or_reduction(self) -> SizedOptions:
        if self.size is not None and self.reduction is not None:
            if "reduction" in self.model_fields_set:
                raise ValueError("size and reduction exclude each other: give one of them")
            object.__setattr__(self, "reduction", None)  # frozen from here on
        if self.size is None and self.reduction is None:
            raise ValueError("neither size nor reduction is given")
        return self


class BottleneckOptions(SizedOptions):
    """Options of every bottleneck adapter."""

    scale: float | Literal["learned"] = Field(1.0, description=SCALE)
    start: Start = Field("bert", description=START)

    @field_validator("scale", mode="before")
    @classmethod
    def _is_not_zero(cls, scale: Any) -> Any:
        if scale in (0, "0", 0.0):
            raise ValueError("a scale of 0 adds nothing")
        return scale


class AdapterOptions(BottleneckOptions):
    """adapter's defaults; the author's grid of sizes is 8 to 512, 64 its geometric middle."""

    size: int | None = Field(64, ge=1, description="Width of the bottleneck.")

    @model_validator(mode="before")
    @classmethod
    def _reduction_replaces_the_size(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("reduction") is not None and "size" not in values:
            return {**values, "size": None}
        return values


class HoulsbyOptions(BottleneckOptions):
    """houlsby's defaults."""

    reduction: float | None = Field(16, gt=0, description=REDUCTION)


class PfeifferOptions(HoulsbyOptions):
    """pfeiffer's defaults."""

    activation: str = Field("relu", description=ACTIVATION)
    positions: list[Position] = Field(["ffn"], description=POSITIONS)


class ParallelOptions(PfeifferOptions):
    """parallel's defaults."""

    reduction: float | None = Field(2, gt=0, description=REDUCTION)
    scale: float | Literal["learned"] = Field(4.0, description=SCALE)
    start: Start = Field("mam", description=START)


class ScaledParallelOptions(ParallelOptions):
    """scaled_parallel's defaults."""

    scale: float | Literal["learned"] = Field("learned", description=SCALE)


class BottleneckMethod:
    """One of the bottleneck adapters.

    Args:
        name: its name.
        summary: one line on it.
        options: its options with its own defaults.
        reads: whether it reads the sublayer's output or its input.
        source: the paper.
    """

    kind: Literal["adapter", "full"] = "adapter"
    training_defaults = TRAINING_DEFAULTS
    tuners = (BOTTLENECK,)

    def __init__(
        self,
        name: str,
        summary: str,
        options: type[MethodOptions],
        *,
        reads: Literal["output", "input"],
        source: str,
    ):
        self.name, self.summary, self.options, self.reads, self.source = name, summary, options, reads, source

    def fit(self, model: PreTrainedModel, options: BottleneckOptions) -> BottleneckOptions:
        """Resolves the width against the base's.

        Raises:
            ConfigError: the base's layers are of no known structure, the activation is unknown, or the reduction
                leaves no width.
        """
        from peft_eval.methods.sublayers import find_sublayers

        find_sublayers(model)
        check_activation(options.activation)
        return options.model_copy(update={"size": width(model, options), "reduction": None})

    def adapter_config(self, model: PreTrainedModel, options: BottleneckOptions) -> Any:
        """Returns the peft configuration of fitted options; `gated` may be set on it."""
        from peft_eval.methods.bottleneck_tuner import BottleneckConfig

        return BottleneckConfig(
            size=width(model, options),
            reads=self.reads,
            positions=list(options.positions),
            activation=options.activation,
            dropout=options.adapter_dropout,
            scale=options.scale,
            init=options.start,
        )

    def prepare(self, model: PreTrainedModel, options: BottleneckOptions, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` whose bottlenecks alone are trained, in float32."""
        return wrapped(model, self.adapter_config(model, options), base_id)


def wrapped(model: PreTrainedModel, config: Any, base_id: str) -> Any:
    """Returns a `PeftModel` of a configuration of ours, with the base's name in it."""
    from peft import get_peft_model

    from peft_eval.methods.tuner import register_all

    register_all()
    config.task_type = "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base_id
    return adapted


def width(model: PreTrainedModel, options: Any) -> int:
    """Returns the bottleneck's width for a base.

    Raises:
        ConfigError: the reduction exceeds the hidden size.
    """
    if options.size is not None:
        return int(options.size)
    hidden = model.config.get_text_config().hidden_size
    size = int(hidden // options.reduction)
    if size < 1:
        raise ConfigError(
            f"a reduction of {options.reduction:g} leaves nothing of a hidden size of {hidden}",
            place="--reduction",
            remedy=f"use at most {hidden}, or --size",
        )
    return size


def check_activation(name: str) -> None:
    """Raises ConfigError, with near matches, for an activation that transformers does not know."""
    from transformers.activations import ACT2FN

    if name not in ACT2FN:
        raise unknown_name("activation", name, ACT2FN, place="--activation")


def bottleneck_methods() -> list[BottleneckMethod]:
    """Returns the five bottleneck adapters."""
    both, one, beside = "after attention and feed-forward", "after the feed-forward", "beside the feed-forward"
    table: list[tuple[str, str, type[MethodOptions], Literal["output", "input"], str]] = [
        ("adapter", f"the paper's own adapters, {both}", AdapterOptions, "output", "arXiv 2411.16775"),
        ("houlsby", f"adapters {both}", HoulsbyOptions, "output", "arXiv 1902.00751"),
        ("pfeiffer", f"adapters {one}", PfeifferOptions, "output", "arXiv 2005.00247"),
        ("parallel", f"adapters {beside}", ParallelOptions, "input", "arXiv 2110.04366"),
        ("scaled_parallel", f"adapters {beside}, scale learned", ScaledParallelOptions, "input", "arXiv 2110.04366"),
    ]
    return [
        BottleneckMethod(name, summary, options, reads=reads, source=source)
        for name, summary, options, reads, source in table
    ]
