"""The built-in methods, offered through the same hook as a stranger's."""

from __future__ import annotations

from collections.abc import Iterable

from peft_eval.hookspecs import hookimpl
from peft_eval.methods.bitfit import BitFitMethod
from peft_eval.methods.bottleneck import bottleneck_methods
from peft_eval.methods.catalogue import catalogue
from peft_eval.methods.compacter import compacter_methods
from peft_eval.methods.full import FullMethod
from peft_eval.methods.loretta_adp import LorettaAdpMethod
from peft_eval.methods.loretta_rep import LorettaRepMethod
from peft_eval.methods.lorta import LortaMethod
from peft_eval.methods.method import Method
from peft_eval.methods.sam import SamMethod
from peft_eval.methods.sara import SaraMethod
from peft_eval.methods.selective import AttentionTuningMethod, LayerTuningMethod
from peft_eval.methods.subspace_scaling import subspace_scaling_methods


@hookimpl
def peft_eval_methods() -> Iterable[Method]:
    """Returns the methods that peft-eval brings along."""
    return [
        FullMethod(),
        *catalogue(),
        *bottleneck_methods(),
        *compacter_methods(),
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
