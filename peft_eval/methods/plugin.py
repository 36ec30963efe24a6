"""The built-in methods, offered through the same hook as a stranger's."""

from __future__ import annotations

from collections.abc import Iterable

from peft_eval.hookspecs import hookimpl
from peft_eval.methods.bottleneck import bottleneck_methods
from peft_eval.methods.full import FullMethod
from peft_eval.methods.lora import LoraMethod
from peft_eval.methods.method import Method


@hookimpl
def peft_eval_methods() -> Iterable[Method]:
    """Returns the methods that peft-eval brings along."""
    return [FullMethod(), LoraMethod(), *bottleneck_methods()]
