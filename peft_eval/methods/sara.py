"""SaRA (arXiv 2409.06633): train the weights that are nearly zero, since they do next to nothing in the base.

Chosen are the weights with |w| < threshold of the linear layers. Followed is the authors' code
(sjtuplayer/SaRA@5cb8c67, optim/adamw.py; the paper itself could not be read): threshold 2e-3, AdamW with weight decay
0.01, learning rate 1e-3 · exp(-350 · threshold), which is 5e-4; a penalty λ · ‖P ⊙ M‖_* on the chosen weights of one
layer, drawn anew at each step (the low-rank constraint; λ is 0 in their code, too); and a second choice after so
many steps, which leaves weights that have outgrown the threshold as they are.

Different here: weights of linear layers alone are chosen, not biases, norms and embeddings; what is trained is the
difference to the base's weight, so decay pulls to the base's value, less than a threshold away from zero; and the
optimiser's state is kept at the second choice. Their unstructured backward pass, which keeps no dense gradient, is
`sparse_tuner`'s own for one layer at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from peft_eval.errors import ConfigError, PeftEvalError
from peft_eval.methods.targeted import TargetedMethod, TargetedOptions, peft_targets
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SPARSE = Tuner(
    peft_type="SPARSE_WEIGHTS",
    config="peft_eval.methods.sparse_tuner:SparseConfig",
    model="peft_eval.methods.sparse_tuner:SparseModel",
    prefix="sparse_",
)
_ADAPTER = "default"


class SaraOptions(TargetedOptions):
    """SaRA's options."""

    threshold: float = Field(2e-3, gt=0, description="Weights of smaller magnitude are trained.")
    rank_penalty: float = Field(0.0, ge=0, description="Factor of the nuclear norm of one layer's trained weights.")
    progressive_step: int | None = Field(
        None, ge=1, description="Step after which weights that have outgrown the threshold are left as they are."
    )


class SaraMethod(TargetedMethod):
    """SaRA."""

    name = "sara"
    summary = "single weights, those nearly zero in the base"
    source = "arXiv 2409.06633"
    options = SaraOptions
    tuners = (SPARSE,)
    training_defaults: Mapping[str, Any] = {
        "learning_rate": 5e-4,
        "weight_decay": 0.01,
        "scheduler": "linear",
        "warmup_ratio": 0.03,
    }

    def misfits(
        self, model: PreTrainedModel, shapes: dict[str, tuple[int, int]], options: SaraOptions
    ) -> list[PeftEvalError]:
        """Returns an error if no weight is below the threshold."""
        weights: list[Any] = [model.get_submodule(name).weight for name in shapes]
        if any((weight.abs() < options.threshold).any() for weight in weights):
            return []
        smallest = min(float(weight.detach().abs().min()) for weight in weights)
        return [
            ConfigError(
                f"no weight of the chosen layers is below {options.threshold:g}",
                place="--threshold",
                remedy=f"the smallest is {smallest:.2g}",
            )
        ]

    def adapter_config(self, model: PreTrainedModel, options: SaraOptions) -> Any:
        """Returns the peft configuration of fitted options."""
        from peft_eval.methods.sparse_tuner import SparseConfig

        return SparseConfig(
            target_modules=peft_targets(options.targets),
            threshold=options.threshold,
            progressive_step=options.progressive_step,
            rank_penalty=options.rank_penalty,
        )

    def penalty(self, model: Any) -> torch.Tensor | None:
        """Returns λ · ‖P ⊙ M‖_* of one layer, or None where λ is 0."""
        import torch

        from peft_eval.methods.sparse_tuner import sparse_layers

        factor = model.peft_config[_ADAPTER].rank_penalty
        if not factor:
            return None
        layers = list(sparse_layers(model).values())
        drawn = layers[int(torch.randint(len(layers), ()))]
        return factor * torch.linalg.matrix_norm(drawn.chosen_weights(_ADAPTER), ord="nuc")

    def after_step(self, model: Any, step: int) -> None:
        """Makes the second choice when its step has come, and keeps to it."""
        from peft_eval.methods.sparse_tuner import sparse_layers

        config = model.peft_config[_ADAPTER]
        if config.progressive_step is None or step < config.progressive_step:
            return
        for layer in sparse_layers(model).values():
            if step == config.progressive_step:
                layer.close_outgrown(_ADAPTER, config.threshold)
            layer.restore_closed(_ADAPTER)
