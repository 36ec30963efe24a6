"""BitFit (arXiv 2106.10199): biases alone are trained, and modules without one get one of zero.

Modules are all linear layers but the LM head, and those norms that have a bias in the base. The paper trains the biases
that a model has; a zero bias where there was none is what arXiv 2411.16775's author does (PROTOCOLS A2), since Llama
has none at all. Norms without a bias (Llama's) and the LM head can be named in `--targets`; no engine has a place for
such a bias, so they are for `--model hf` alone. What is trained is the difference to the base's bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from peft_eval.errors import ConfigError, raise_all
from peft_eval.methods.bottleneck import wrapped
from peft_eval.methods.method import MethodOptions
from peft_eval.methods.targeted import TargetedOptions, peft_targets, refuse_quantised
from peft_eval.methods.targets import linear_shapes, matches, target_errors
from peft_eval.methods.tuner import Tuner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BITFIT = Tuner(
    peft_type="BITFIT",
    config="peft_eval.methods.bitfit_tuner:BitFitConfig",
    model="peft_eval.methods.bitfit_tuner:BitFitModel",
    prefix="bitfit_",
)


class BitFitOptions(TargetedOptions):
    """BitFit's options."""

    targets: list[str] | None = Field(  # type: ignore[assignment]  # None asks for the base's
        None,
        description="Modules whose bias is trained, by the end of their names, a regular expression or all-linear. "
        "Default: all linear layers, and norms that have a bias.",
    )


class BitFitMethod:
    """BitFit."""

    name = "bitfit"
    summary = "biases, of zero where the base has none"
    source = "arXiv 2106.10199"
    options: type[MethodOptions] = BitFitOptions
    kind: Literal["adapter", "full"] = "adapter"
    tuners = (BITFIT,)
    training_defaults: Mapping[str, Any] = {
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "scheduler": "linear",
        "warmup_ratio": 0.03,
    }

    def fit(self, model: PreTrainedModel, options: BitFitOptions) -> BitFitOptions:
        """Resolves the targets against the base's modules.

        Raises:
            ConfigError: the base is quantised, or a target matches nothing that a bias can be added to.
        """
        from peft_eval.methods.bitfit_tuner import has_place

        refuse_quantised(model, self.name)
        if options.targets is None:
            return options.model_copy(update={"targets": default_targets(model)})
        found = matches(model, options.targets)
        errors = target_errors(model, found)
        names = [name for names in found.values() for name in names]
        errors += [
            ConfigError(f"{name}, a {type(model.get_submodule(name)).__name__}, can have no bias", place="--targets")
            for name in names
            if not has_place(model.get_submodule(name))
        ][:1]
        raise_all(errors)
        return options

    def prepare(self, model: PreTrainedModel, options: BitFitOptions, *, base_id: str) -> Any:
        """Wraps the base in a `PeftModel` whose biases alone are trained, in float32."""
        from peft_eval.methods.bitfit_tuner import BitFitConfig

        targets = options.targets or default_targets(model)
        return wrapped(model, BitFitConfig(target_modules=peft_targets(targets)), base_id)


def default_targets(model: PreTrainedModel) -> list[str]:
    """Returns the last names of all linear layers and of the modules that have a bias of one number a feature."""
    from peft_eval.methods.bitfit_tuner import has_place

    names = list(linear_shapes(model))
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if module is not head and getattr(module, "bias", None) is not None and has_place(module):
            names.append(name)
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))
