"""LoRETTA_rep (arXiv 2402.11417): LoRA whose two factors are tensor trains.

    W + (alpha / rank) · B · A        A: (rank, in), B: (out, rank), each the dense form of its cores

Followed is the authors' code (yifanycc/loretta@1ea26c3, tuners/loretta_rep.py and tensor_layers/): rank 8, alpha 16,
tensor rank 5, dropout 0.05, layers as for LoRA; the paper's equations could not be read. Different here:

* The start. Theirs draws all cores, so that the first step is not the base; ours has the last core of B at zero, as
  LoRA has B. `--start random` is theirs.
* The shapes of the cores. Theirs come from a table for some sizes; ours from the sizes' prime factors, so any base
  will do, and a tensor rank is cut where a part of the train cannot have it.
* Their code also trains modules with "Norm" in their names, which in Llama's names there is none of. Left out: a norm
  belongs to --method ln_tuning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from peft_eval.errors import ConfigError, PeftEvalError
from peft_eval.methods.targeted import TargetedMethod, TargetedOptions, peft_targets
from peft_eval.methods.targets import ALL_LINEAR, rank_error
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LORETTA_REP = Tuner(
    peft_type="LORETTA_REP",
    config="peft_eval.methods.loretta_rep_tuner:LorettaRepConfig",
    model="peft_eval.methods.loretta_rep_tuner:LorettaRepModel",
    prefix="loretta_",
)


class LorettaRepOptions(TargetedOptions):
    """LoRETTA_rep's options; the defaults are those of the authors' code."""

    rank: int = Field(8, ge=1, description="Rank of the update.")
    alpha: float | None = Field(16, gt=0, description="Scale of the update, divided by the rank.")
    tensor_rank: int = Field(5, ge=1, description="Rank between the cores of a tensor train.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout before A.")
    start: Literal["zero", "random"] = Field("zero", description="First update: zero, the base; random, the paper's.")
    targets: list[str] | None = Field(  # type: ignore[assignment]  # None asks for the architecture's
        None,
        description="Linear layers to adapt, by the end of their names, a regular expression or all-linear. "
        "Default: LoRA's for the architecture (q_proj,v_proj for Llama).",
    )

    @model_validator(mode="after")
    def _alpha_defaults_to_rank(self) -> LorettaRepOptions:
        if self.alpha is None:
            object.__setattr__(self, "alpha", float(self.rank))  # frozen from here on
        return self


class LorettaRepMethod(TargetedMethod):
    """LoRETTA_rep."""

    name = "loretta_rep"
    summary = "LoRA with factors held as tensor trains"
    source = "arXiv 2402.11417"
    options = LorettaRepOptions
    tuners = (LORETTA_REP,)

    def default_targets(self, model: PreTrainedModel) -> list[str]:
        """Returns LoRA's targets for the architecture."""
        from peft_eval.methods.fitting import default_targets

        return default_targets("LORA", model) or [ALL_LINEAR]

    def misfits(
        self, model: PreTrainedModel, shapes: dict[str, tuple[int, int]], options: LorettaRepOptions
    ) -> list[PeftEvalError]:
        """Returns an error if the rank exceeds a layer's smaller side."""
        error: ConfigError | None = rank_error(options.rank, shapes)
        return [error] if error else []

    def adapter_config(self, model: PreTrainedModel, options: LorettaRepOptions) -> Any:
        """Returns the peft configuration of fitted options."""
        from peft_eval.methods.loretta_rep_tuner import LorettaRepConfig

        return LorettaRepConfig(
            target_modules=peft_targets(options.targets or self.default_targets(model)),
            rank=options.rank,
            alpha=options.alpha or float(options.rank),
            tensor_rank=options.tensor_rank,
            dropout=options.dropout,
            zero_start=options.start == "zero",
        )
