"""SSL and SSB (arXiv 2407.05417): a base weight is scaled along its inputs, or along inputs and outputs.

The paper sees a weight as its singular value decomposition and a method as a change of the subspaces that this spans.
Scale the Subspace of the Left side trains D in D · W, Scale the Subspace of Both sides D₁ and D₂ in D₁ · W · D₂, all
diagonal and 1 at first. With the paper's h = x · W the left side is the input's:

    SSL: h = (x ⊙ d) Wᵀ + b        SSB: h = ((x ⊙ d) Wᵀ) ⊙ e + b        W: (out, in), d: (in,), e: (out,)

Followed is the authors' code (Chongjie-Si/Subspace-Tuning@80efc2b, loralib/layers_SSL.py and layers_SSB.py), where no
decomposition is computed. The paper's text beyond its abstract could not be read, nor were its learning rates found:
1e-3 without weight decay (which would pull the scales to 0, not to 1) is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from peft_eval.methods.targeted import TargetedMethod, TargetedOptions, peft_targets
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SUBSPACE_SCALING = Tuner(
    peft_type="SUBSPACE_SCALING",
    config="peft_eval.methods.subspace_scaling_tuner:SubspaceScalingConfig",
    model="peft_eval.methods.subspace_scaling_tuner:SubspaceScalingModel",
    prefix="scaling_",
)


class SubspaceScalingMethod(TargetedMethod):
    """SSL or SSB.

    Args:
        name: its name.
        summary: one line on it.
        scales_outputs: whether outputs are scaled as well.
    """

    tuners = (SUBSPACE_SCALING,)
    source = "arXiv 2407.05417"
    training_defaults: Mapping[str, Any] = {
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "scheduler": "linear",
        "warmup_ratio": 0.03,
    }

    def __init__(self, name: str, summary: str, *, scales_outputs: bool):
        self.name, self.summary, self.scales_outputs = name, summary, scales_outputs

    def adapter_config(self, model: PreTrainedModel, options: TargetedOptions) -> Any:
        """Returns the peft configuration of fitted options."""
        from peft_eval.methods.subspace_scaling_tuner import SubspaceScalingConfig

        return SubspaceScalingConfig(target_modules=peft_targets(options.targets), scales_outputs=self.scales_outputs)


def subspace_scaling_methods() -> list[SubspaceScalingMethod]:
    """Returns SSL and SSB."""
    return [
        SubspaceScalingMethod("ssl", "a trained factor for each input of a weight", scales_outputs=False),
        SubspaceScalingMethod("ssb", "a trained factor for each input and output of a weight", scales_outputs=True),
    ]
