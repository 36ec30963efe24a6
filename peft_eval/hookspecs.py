"""The contract between peft-eval and its plugins, the built-in ones included.

A plugin is a module (or object) with functions of these names, marked with `peft_eval.hookimpl`
and announced in the entry-point group `peft_eval`. See CONTRIBUTING.md for a worked example.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from peft_eval.data.source import DataSource
    from peft_eval.methods.method import Method

hookspec = pluggy.HookspecMarker("peft_eval")
hookimpl = pluggy.HookimplMarker("peft_eval")


@hookspec
def peft_eval_methods() -> Iterable[Method]:  # type: ignore[empty-body]
    """Returns methods that `peft-eval train --method NAME` offers."""


@hookspec(firstresult=True)
def peft_eval_method_named(name: str, methods: Mapping[str, Method]) -> Method | None:
    """Returns the method that a name stands for which is no method's own, such as `lora+pfeiffer`, else None."""


@hookspec
def peft_eval_datasets() -> Iterable[DataSource]:  # type: ignore[empty-body]
    """Returns data sources that `--data NAME[:LOCATION]` offers."""


@hookspec
def peft_eval_suites() -> Iterable[Path]:  # type: ignore[empty-body]
    """Returns folders of lm-eval task YAMLs, one suite a folder."""
