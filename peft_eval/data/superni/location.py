"""Finds the folder with the Super-NaturalInstructions files."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from peft_eval.errors import DataError

ENVIRONMENT_VARIABLE = "PEFT_EVAL_SUPERNI"


def fetched_folder() -> Path:
    """Returns where `peft-eval data get superni` puts the data unless told otherwise."""
    return user_cache_path("peft_eval") / "superni"


def superni_folder(given: str | os.PathLike[str] | None) -> Path:
    """Returns the folder given, else that of `PEFT_EVAL_SUPERNI`, else the fetched one.

    Raises:
        DataError: it has no folder `tasks/`.
    """
    if given:
        folder, origin = Path(given).expanduser(), "as given"
    elif named := os.environ.get(ENVIRONMENT_VARIABLE):
        folder, origin = Path(named).expanduser(), f"from {ENVIRONMENT_VARIABLE}"
    else:
        folder, origin = fetched_folder(), "the cache"
    if (folder / "tasks").is_dir():
        return folder
    remedy = (
        "fetch the data with `peft-eval data get superni`, or name a folder that has tasks/ and splits/: "
        f"`--data superni:DIR`, `--metadata superni=DIR` or {ENVIRONMENT_VARIABLE}=DIR"
    )
    raise DataError(f"no Super-NaturalInstructions data here ({origin})", place=str(folder), remedy=remedy)
