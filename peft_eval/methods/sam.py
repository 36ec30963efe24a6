"""SAM, the second-order approximation method (arXiv 2211.15583): train the weights that promise most on the data.

To second order, freeing weight i lowers the loss by g_i² / (2 h_i), with g the gradient of the loss over the data; with
equal curvatures h, the weights with the largest g_i² are best. They are chosen once, before the first step.

Followed is the authors' code (fuzihaofzh/AnalyzeParameterEfficientFinetune@3242c91, src/runner.py, `bsearch`, and
scripts/train.sh; the paper itself could not be read): gradients are summed with their signs over batches at the base's
weights, and of each weight matrix the same fraction, 0.005, with the largest |sum| is trained, at 1e-4.

Different here: weights of linear layers alone, not biases, norms and embeddings; 1,024 examples choose, not 600
batches of 16; dropout is off meanwhile; what is trained is the difference to the base's weight, so decay pulls to that.
Choosing needs memory for a gradient of every chosen layer, as full fine-tuning does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from peft_eval.errors import ConfigError
from peft_eval.methods.sara import SPARSE
from peft_eval.methods.targeted import TargetedMethod, TargetedOptions, peft_targets
from peft_eval.methods.targets import linear_shapes, matches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from peft_eval.methods.method import Course

_ADAPTER = "default"


class SamOptions(TargetedOptions):
    """SAM's options."""

    fraction: float = Field(0.005, gt=0, le=1, description="Share of each layer's weights that is trained.")
    choosing_examples: int = Field(1024, ge=1, description="Training examples whose gradients choose the weights.")


class SamMethod(TargetedMethod):
    """SAM."""

    name = "sam"
    summary = "single weights, those with the largest gradients on the data"
    source = "arXiv 2211.15583"
    options = SamOptions
    tuners = (SPARSE,)
    training_defaults: Mapping[str, Any] = {
        "learning_rate": 1e-4,
        "weight_decay": 0.01,
        "scheduler": "linear",
        "warmup_ratio": 0.03,
    }

    def adapter_config(self, model: PreTrainedModel, options: SamOptions) -> Any:
        """Returns the peft configuration of fitted options."""
        from peft_eval.methods.sparse_tuner import SparseConfig

        shapes = linear_shapes(model)
        chosen = [name for names in matches(model, options.targets).values() for name in names]
        counts = {name: max(1, int(options.fraction * shapes[name][0] * shapes[name][1])) for name in chosen}
        return SparseConfig(target_modules=peft_targets(options.targets), counts=counts)

    def prepare(self, model: PreTrainedModel, options: SamOptions, *, base_id: str) -> Any:
        """Refuses: without the run ahead there is no data to choose by."""
        raise ConfigError("sam chooses weights by the data, which is not given here", remedy="call prepare_in")

    def prepare_in(self, model: PreTrainedModel, options: SamOptions, *, base_id: str, course: Course) -> Any:
        """Wraps the base in a `PeftModel` of which the weights that the data chooses are trained."""
        adapted = super().prepare(model, options, base_id=base_id)
        _choose(adapted, course.examples(options.choosing_examples))
        return adapted


def _choose(model: Any, batches: Any) -> None:
    """Sets each layer's places to those of the largest summed gradients.

    Raises:
        ConfigError: the gradients are not finite.
    """
    from tqdm.auto import tqdm

    from peft_eval.methods.sparse_tuner import sparse_layers

    layers = sparse_layers(model)
    weights: dict[str, Any] = {name: layer.linear.weight for name, layer in layers.items()}
    training = model.training
    model.eval()
    with model.disable_adapter():
        for weight in weights.values():
            weight.requires_grad_(True)
        for batch in tqdm(batches, desc="choosing weights", unit=" batches", disable=None):
            model(**{key: value.to(model.device) for key, value in batch.items()}, use_cache=False).loss.backward()
    for name, layer in layers.items():
        weight = weights[name]
        size = weight.grad.abs().flatten()
        if not size.isfinite().all():
            raise ConfigError(f"the gradients of {name} are not finite, so they cannot choose", place="--method")
        layer.choose(_ADAPTER, size.topk(layer.sparse_values[_ADAPTER].numel()).indices.sort().values)
        weight.requires_grad_(False)
        weight.grad = None
    model.train(training)
