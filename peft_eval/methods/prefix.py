"""Prefix tuning (arXiv 2101.00190): trained keys and values before the real ones of every self-attention.

| name | length | written by |
|---|---|---|
| prefix | 30 | a network of width 512 with tanh, kept after training |
| prefix_flat | 30 | nothing, they are parameters themselves |

These are the prefix_tuning and prefix_tuning_flat of arXiv 2303.15647's code, whose defaults they have (PROTOCOLS B).
peft's `prefix_tuning` computes the same network, but its checkpoint holds only what the network wrote, so a run cannot
be continued; it shifts the positions of the real tokens by the length, lets sliding windows pass the prefix by, does
not work with checkpointed gradients, and stands beside no other adapter. Here positions stay, as in the adapters
library, and every token sees the whole prefix. The start is the paper's, random: the first step is not the base's.
Left out: prefixes of cross-attention, dropout on the prefix, and a start from the activations of real words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from peft_eval.methods.bottleneck import TRAINING_DEFAULTS, wrapped
from peft_eval.methods.method import MethodOptions
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFIX = Tuner(
    peft_type="PREFIX",
    config="peft_eval.methods.prefix_tuner:PrefixConfig",
    model="peft_eval.methods.prefix_tuner:PrefixModel",
    prefix="prefix_",
)


class PrefixFlatOptions(MethodOptions):
    """prefix_flat's options."""

    length: int = Field(30, ge=1, description="Number of keys before the real ones.")


class PrefixOptions(PrefixFlatOptions):
    """prefix's options."""

    mlp_size: int = Field(512, ge=1, description="Width of the network that writes the prefix.")


class PrefixMethod:
    """Prefix tuning with its network, or without."""

    kind: Literal["adapter", "full"] = "adapter"
    source = "arXiv 2101.00190"
    # Few weights, which move little: the largest rate of both papers' grids.
    training_defaults = {**TRAINING_DEFAULTS, "learning_rate": 1e-3}
    tuners = (PREFIX,)

    def __init__(self, name: str, summary: str, options: type[MethodOptions]):
        self.name, self.summary, self.options = name, summary, options

    def fit(self, model: PreTrainedModel, options: PrefixFlatOptions) -> PrefixFlatOptions:
        """Returns the options unchanged.

        Raises:
            ConfigError: the base's layers are of no known structure.
        """
        from peft_eval.methods.sublayers import find_sublayers

        find_sublayers(model)
        return options

    def adapter_config(self, model: PreTrainedModel, options: PrefixFlatOptions) -> Any:
        """Returns the peft configuration of fitted options; `gated` may be set on it."""
        from peft_eval.methods.prefix_tuner import PrefixConfig

        return PrefixConfig(length=options.length, mlp_size=getattr(options, "mlp_size", None))

    def prepare(self, model: PreTrainedModel, options: PrefixFlatOptions, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` whose prefixes alone are trained, in float32."""
        return wrapped(model, self.adapter_config(model, options), base_id)


def prefix_methods() -> list[PrefixMethod]:
    """Returns prefix tuning with its network and without."""
    return [
        PrefixMethod("prefix", "keys and values before each attention's own, from a network", PrefixOptions),
        PrefixMethod("prefix_flat", "keys and values before each attention's own", PrefixFlatOptions),
    ]
