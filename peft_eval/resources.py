"""Where the folders that travel with the package are: task YAMLs and the shipped zoo.

A wheel carries them inside the package, a checkout beside it.
"""

from __future__ import annotations

from pathlib import Path

from peft_eval.errors import PeftEvalError

_PACKAGE = Path(__file__).parent


def _folder(in_wheel: str, in_checkout: str) -> Path:
    for folder in (_PACKAGE / in_wheel, _PACKAGE.parent / in_checkout):
        if folder.is_dir():
            return folder
    raise PeftEvalError(
        f"the folder {in_checkout}/ of peft-eval is missing", place=str(_PACKAGE), remedy="reinstall peft-eval"
    )


def tasks_folder() -> Path:
    """Returns the folder that holds one folder of lm-eval YAMLs a suite."""
    return _folder("_tasks", "tasks")


def zoo_folder() -> Path:
    """Returns the folder of shipped checkpoints and the embedded base."""
    return _folder("_zoo", "adapters_zoo")
