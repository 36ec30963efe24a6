"""The official test tasks of each track, by category.

They are carried with the package because the number of tasks defines the benchmark: a folder whose own lists are
those of another commit (an unrelated 33-task list has the same path), or which lacks files, must not pass for it.
`test_tasks.json` is from allenai/natural-instructions, splits/default/test_tasks.txt at b00871c and
splits/xlingual/test_tasks.txt at d82b17a, grouped by the first of each task's `Categories`.
"""

from __future__ import annotations

import functools
import json
from importlib import resources

from peft_eval.errors import unknown_name


@functools.cache
def _tracks() -> dict[str, dict[str, list[str]]]:
    return json.loads((resources.files(__package__) / "test_tasks.json").read_text(encoding="utf-8"))


def official_test_tasks(track: str) -> dict[str, list[str]]:
    """Returns the names of a track's test tasks by category, both sorted.

    Args:
        track: `default` (English, 119 tasks) or `xlingual` (35).

    Raises:
        ConfigError: there is no such track.
    """
    if track not in _tracks():
        raise unknown_name("track", track, _tracks())
    return _tracks()[track]


def category_slug(category: str) -> str:
    """Returns a category's name as the official script prints it, e.g. `textual_entailment`."""
    return "_".join(category.lower().split())
