"""Compacter and Compacter++ (arXiv 2106.04647): bottlenecks of few weights, with one rule shared by all layers.

| name | after | size | n | rank | activation |
|---|---|---|---|---|---|
| compacter | attention, feed-forward | hidden / 32 | 4 | 1 | gelu |
| compacter_pp | feed-forward | hidden / 32 | 4 | 1 | gelu |

The defaults are those of arXiv 2303.15647's code, which are the adapters library's (PROTOCOLS B). Followed: the rule
A of shape (n, n, n) drawn from N(0, (10⁻⁴)²) and trained, low-rank factors by Glorot's normal start, biases; where
they sit is told in `bottleneck`. Both matrices carry that rule, so what the first step adds is about 10⁻⁸ of h: next to
nothing, not nothing. Left out: a rule of each layer's own, a rule in two factors, factors of full rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from peft_eval.errors import ConfigError
from peft_eval.methods.bottleneck import (
    ACTIVATION,
    POSITIONS,
    REDUCTION,
    TRAINING_DEFAULTS,
    Position,
    SizedOptions,
    check_activation,
    width,
    wrapped,
)
from peft_eval.methods.method import MethodOptions
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COMPACTER = Tuner(
    peft_type="COMPACTER",
    config="peft_eval.methods.compacter_tuner:CompacterConfig",
    model="peft_eval.methods.compacter_tuner:CompacterModel",
    prefix="bottleneck_",
    blocks="peft_eval.methods.compacter_tuner:blocks",
)


class CompacterOptions(SizedOptions):
    """compacter's options."""

    reduction: float | None = Field(32, gt=0, description=REDUCTION)
    activation: str = Field("gelu", description=ACTIVATION)
    phm_dim: int = Field(4, ge=1, description="Number n of Kronecker products; divides hidden size and width.")
    phm_rank: int = Field(1, ge=1, description="Rank of each layer's own factors.")


class CompacterPpOptions(CompacterOptions):
    """compacter_pp's options."""

    positions: list[Position] = Field(["ffn"], description=POSITIONS)


class CompacterMethod:
    """Compacter or Compacter++."""

    kind: Literal["adapter", "full"] = "adapter"
    source = "arXiv 2106.04647"
    # Few weights, which move little: the largest rate of both papers' grids.
    training_defaults = {**TRAINING_DEFAULTS, "learning_rate": 1e-3}
    tuners = (COMPACTER,)

    def __init__(self, name: str, summary: str, options: type[MethodOptions]):
        self.name, self.summary, self.options = name, summary, options

    def fit(self, model: PreTrainedModel, options: CompacterOptions) -> CompacterOptions:
        """Resolves the width against the base's.

        Raises:
            ConfigError: the base's layers are of no known structure, the activation is unknown, or n does not divide
                the hidden size and the width.
        """
        from peft_eval.methods.sublayers import find_sublayers

        find_sublayers(model)
        check_activation(options.activation)
        size, hidden = width(model, options), model.config.get_text_config().hidden_size
        for what, value in (("the hidden size", hidden), ("the bottleneck's width", size)):
            if value % options.phm_dim:
                raise ConfigError(
                    f"{options.phm_dim} does not divide {what}, {value}",
                    place="--phm-dim",
                    remedy="use another, or another --size",
                )
        return options.model_copy(update={"size": size, "reduction": None})

    def adapter_config(self, model: PreTrainedModel, options: CompacterOptions) -> Any:
        """Returns the peft configuration of fitted options; `gated` may be set on it."""
        from peft_eval.methods.compacter_tuner import CompacterConfig

        return CompacterConfig(
            size=width(model, options),
            phm_dim=options.phm_dim,
            phm_rank=options.phm_rank,
            positions=list(options.positions),
            activation=options.activation,
            dropout=options.adapter_dropout,
        )

    def prepare(self, model: PreTrainedModel, options: CompacterOptions, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` whose bottlenecks alone are trained, in float32."""
        return wrapped(model, self.adapter_config(model, options), base_id)


def compacter_methods() -> list[CompacterMethod]:
    """Returns Compacter and Compacter++."""
    return [
        CompacterMethod(
            "compacter", "Kronecker bottlenecks with a shared rule, after both sublayers", CompacterOptions
        ),
        CompacterMethod(
            "compacter_pp", "Kronecker bottlenecks with a shared rule, after the feed-forward", CompacterPpOptions
        ),
    ]
