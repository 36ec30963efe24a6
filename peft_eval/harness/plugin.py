"""The built-in suites, offered through the same hook as anybody's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from peft_eval.hookspecs import hookimpl
from peft_eval.resources import tasks_folder


@hookimpl
def peft_eval_suites() -> Iterable[Path]:
    """Returns the folders in `tasks/` that hold task YAMLs; Python modules that tasks share are no suites."""
    return sorted(folder for folder in tasks_folder().iterdir() if folder.is_dir() and any(folder.rglob("*.yaml")))
