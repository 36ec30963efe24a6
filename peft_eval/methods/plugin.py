"""The built-in methods, offered through the same hook as a stranger's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from peft_eval.errors import ConfigError
from peft_eval.hookspecs import hookimpl
from peft_eval.methods.bitfit import BitFitMethod
from peft_eval.methods.bottleneck import bottleneck_methods
from peft_eval.methods.catalogue import catalogue, unavailable
from peft_eval.methods.compacter import compacter_methods
from peft_eval.methods.composition import composed, hybrid_methods
from peft_eval.methods.full import FullMethod
from peft_eval.methods.loretta_adp import LorettaAdpMethod
from peft_eval.methods.loretta_rep import LorettaRepMethod
from peft_eval.methods.lorta import LortaMethod
from peft_eval.methods.method import Method
from peft_eval.methods.prefix import prefix_methods
from peft_eval.methods.sam import SamMethod
from peft_eval.methods.sara import SaraMethod
from peft_eval.methods.selective import AttentionTuningMethod, LayerTuningMethod
from peft_eval.methods.subspace_scaling import subspace_scaling_methods


@hookimpl
def peft_eval_methods() -> Iterable[Method]:
    """Returns the methods that peft-eval brings along."""
    single: list[Method] = [
        FullMethod(),
        *catalogue(),
        *bottleneck_methods(),
        *compacter_methods(),
        *prefix_methods(),
        BitFitMethod(),
        AttentionTuningMethod(),
        LayerTuningMethod(),
        *subspace_scaling_methods(),
        LorettaAdpMethod(),
        LorettaRepMethod(),
        LortaMethod(),
        SaraMethod(),
        SamMethod(),
    ]
    return [*single, *hybrid_methods({method.name: method for method in single})]


@hookimpl
def peft_eval_method_named(name: str, methods: Mapping[str, Method]) -> Method | None:
    """Returns the composition of methods that `a+b` stands for.

    Raises:
        ConfigError: it cannot be composed, or names a type of peft's that trains nothing by itself.
    """
    if name in unavailable() and name not in methods:
        raise ConfigError(f"{name} is no method: {unavailable()[name]}", place="--method")
    return composed(name, methods)
