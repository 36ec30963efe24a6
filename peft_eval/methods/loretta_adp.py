"""LoRETTA_adp (arXiv 2402.11417): bottleneck adapters whose two projections are tensor trains.

After attention and after the feed-forward, o becomes o + up(act(down(o))): down is (size, hidden), up is (hidden,
size), each the dense form of its cores, with biases. Followed is the authors' code (yifanycc/loretta@9d3184a,
tuners/loretta_adp.py): activation tanh, tensor rank 5, inner skip, scale 1; the size 64 is that of its example. The
paper's equations could not be read. Different here:

* Where adapters sit. Theirs for Llama wrap gate_proj, up_proj (before) and down_proj (after); the paper's figure and
  text, as others sum them up, have them after the two sublayers, which is what `positions` means here.
* The start: the last core of `up` and the biases are zero, so the first step is the base. `--start random` is theirs.
* The shapes of the cores, and norms, which are not trained: see `loretta_rep`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from peft_eval.methods.bottleneck import TRAINING_DEFAULTS, Position, check_activation, wrapped
from peft_eval.methods.method import MethodOptions
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LORETTA_ADP = Tuner(
    peft_type="LORETTA_ADP",
    config="peft_eval.methods.loretta_adp_tuner:LorettaAdpConfig",
    model="peft_eval.methods.loretta_adp_tuner:LorettaAdpModel",
    prefix="loretta_",
    blocks="peft_eval.methods.loretta_adp_tuner:blocks",
)


class LorettaAdpOptions(MethodOptions):
    """LoRETTA_adp's options."""

    size: int = Field(64, ge=1, description="Width of the bottleneck.")
    tensor_rank: int = Field(5, ge=1, description="Rank between the cores of a tensor train.")
    activation: str = Field("tanh", description="Activation in the bottleneck, as transformers names it.")
    adapter_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the bottleneck.")
    positions: list[Position] = Field(["attention", "ffn"], description="Sublayers with an adapter: attention, ffn.")
    scale: float = Field(1.0, gt=0, description="Factor of what is added.")
    start: Literal["zero", "random"] = Field("zero", description="First change: zero, the base; random, the paper's.")

    @field_validator("positions")
    @classmethod
    def _has_a_position(cls, positions: list[Position]) -> list[Position]:
        if not positions:
            raise ValueError("names no sublayer: attention, ffn or both")
        return [one for one in ("attention", "ffn") if one in positions]


class LorettaAdpMethod:
    """LoRETTA_adp."""

    name = "loretta_adp"
    summary = "adapters held as tensor trains"
    source = "arXiv 2402.11417"
    options: type[MethodOptions] = LorettaAdpOptions
    kind: Literal["adapter", "full"] = "adapter"
    training_defaults = TRAINING_DEFAULTS
    tuners = (LORETTA_ADP,)

    def fit(self, model: PreTrainedModel, options: LorettaAdpOptions) -> LorettaAdpOptions:
        """Checks base and activation.

        Raises:
            ConfigError: the base's layers are of no known structure, or the activation is unknown.
        """
        from peft_eval.methods.sublayers import find_sublayers

        find_sublayers(model)
        check_activation(options.activation)
        return options

    def prepare(self, model: PreTrainedModel, options: LorettaAdpOptions, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` whose tensor trains and biases alone are trained, in float32."""
        from peft_eval.methods.loretta_adp_tuner import LorettaAdpConfig

        config = LorettaAdpConfig(
            size=options.size,
            tensor_rank=options.tensor_rank,
            activation=options.activation,
            dropout=options.adapter_dropout,
            positions=list(options.positions),
            scale=options.scale,
            zero_start=options.start == "zero",
        )
        return wrapped(model, config, base_id)
