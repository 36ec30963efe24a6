"""LoRTA (arXiv 2410.04060): the updates of all attention weights are slices of one tensor of low CP rank.

With layers l, matrices m (query, key, value, output), heads h and the hidden and head dimensions, the tensor is
T = Σ_k  hidden_k ∘ width_k ∘ head_k ∘ matrix_k ∘ layer_k, and the update of head h's slice (head_dim, hidden) of a
weight is

    (alpha / rank) · width · diag(head[h] ⊙ matrix[m] ⊙ layer[l]) · hiddenᵀ

    hidden: (hidden, rank), width: (head_dim, rank), head: (heads, rank), matrix: (4, rank), layer: (layers, rank)

Followed is the authors' code (ihounie/peft@2f6c3e8, tuners/lorta/model.py; the paper beyond its abstract could not be
read): factors start Kaiming uniform, U(-1/√rank, 1/√rank), but `width` at zero, so the first step is the base. Their
defaults of rank and alpha could not be found; 8 and 32 are those of their example. Different here:

* The output projection's heads lie along its inputs, where the base has them; their code takes its outputs. So
  hidden and heads x head_dim may differ.
* With fewer key and value heads than query heads, those take the first rows of `head`.
* Every attention module is a layer, so that a base with an encoder and a decoder has one for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from peft_eval.errors import ConfigError, PeftEvalError
from peft_eval.methods.targeted import TargetedMethod, TargetedOptions, peft_targets
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LORTA = Tuner(
    peft_type="LORTA",
    config="peft_eval.methods.lorta_tuner:LortaConfig",
    model="peft_eval.methods.lorta_tuner:LortaModel",
    prefix="lorta_",
)


class LortaOptions(TargetedOptions):
    """LoRTA's options."""

    rank: int = Field(8, ge=1, description="CP rank of the tensor.")
    alpha: float = Field(32, gt=0, description="Scale of the update, divided by the rank.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout before the update.")
    targets: list[str] | None = Field(  # type: ignore[assignment]  # None asks for the architecture's
        None,
        description="Attention's projections to adapt, by the end of their names. Default: query, key, value, output.",
    )


class LortaMethod(TargetedMethod):
    """LoRTA."""

    name = "lorta"
    summary = "one low-rank tensor over layers, heads and matrices"
    source = "arXiv 2410.04060"
    options = LortaOptions
    tuners = (LORTA,)
    training_defaults: Mapping[str, Any] = {
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "scheduler": "linear",
        "warmup_ratio": 0.03,
    }

    def default_targets(self, model: PreTrainedModel) -> list[str]:
        """Returns the names of the base's query, key, value and output projections.

        Raises:
            ConfigError: it has none by a known name.
        """
        from peft_eval.methods.lorta_tuner import MATRICES, matrix_of

        found = dict.fromkeys(
            name.rpartition(".")[2] for name, _ in model.named_modules() if matrix_of(name) is not None
        )
        if not found:
            known = ", ".join(name for names in MATRICES for name in names)
            raise ConfigError(
                f"a {type(model).__name__} has no attention projections by a known name",
                place="--targets",
                remedy=f"known are {known}; fused ones have no heads of their own here",
            )
        return list(found)

    def misfits(
        self, model: PreTrainedModel, shapes: dict[str, tuple[int, int]], options: LortaOptions
    ) -> list[PeftEvalError]:
        """Returns an error for a layer that is no slice of the tensor."""
        from peft_eval.methods.lorta_tuner import Dimensions, matrix_of

        dimensions = Dimensions.of(model, list(shapes))
        for name, (inputs, outputs) in shapes.items():
            fault = dimensions.misfit(matrix_of(name), inputs, outputs)
            if fault:
                return [ConfigError(f"{name} {fault}", place="--targets", remedy="leave it out, or use --method lora")]
        return []

    def adapter_config(self, model: PreTrainedModel, options: LortaOptions) -> Any:
        """Returns the peft configuration of fitted options."""
        from peft_eval.methods.lorta_tuner import LortaConfig

        return LortaConfig(
            target_modules=peft_targets(options.targets or self.default_targets(model)),
            rank=options.rank,
            alpha=options.alpha,
            dropout=options.dropout,
        )
