"""The built-in methods, offered through the same hook as a stranger's."""

from __future__ import annotations

from collections.abc import Iterable

from peft_eval.hookspecs import hookimpl
from peft_eval.methods.full import FullMethod
from peft_eval.methods.lora import LoraMethod
from peft_eval.methods.method import Method


@hookimpl
def peft_eval_methods() -> Iterable[Method]:
    """Returns LoRA and full fine-tuning."""
    return [FullMethod(), LoraMethod()]
