"""The test tasks of a track as found in a folder, with what is missing said."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from peft_eval.data.superni.reader import read_tasks, task_file
from peft_eval.data.superni.task import EVALUATION_INSTANCES, Task
from peft_eval.data.superni.tracks import official_test_tasks
from peft_eval.errors import DataError, raise_all


@dataclass(frozen=True, slots=True)
class EvaluationTasks:
    """A track's test tasks.

    Attributes:
        track: `default` or `xlingual`.
        tasks: the tasks there are, by category; each with at most its 100 evaluation instances. A category of which
            no task is there has an empty list.
        missing: names of the official tasks that the folder lacks.
    """

    track: str
    tasks: dict[str, list[Task]]
    missing: tuple[str, ...]

    def coverage(self, category: str | None = None) -> str:
        """Returns e.g. `3 of 24 tasks` for a category, or for the whole track."""
        official = official_test_tasks(self.track)
        chosen = official if category is None else {category: official[category]}
        found = sum(len(self.tasks[name]) for name in chosen)
        return f"{found} of {sum(map(len, chosen.values()))} tasks"

    def lacks(self, category: str | None = None) -> bool:
        """Says whether tasks of a category, or of the whole track, are missing."""
        official = official_test_tasks(self.track)
        return any(len(self.tasks[name]) < len(official[name]) for name in ([category] if category else official))

    def require(self, category: str, *, part_is_enough: bool) -> None:
        """Checks that there is what was asked for.

        Args:
            category: all tasks of this category have to be there,
            part_is_enough: or any task of the track.

        Raises:
            DataError: tasks are missing; every missing task of the track is named.
        """
        total = sum(map(len, official_test_tasks(self.track).values()))
        if part_is_enough and len(self.missing) == total:
            raise DataError(
                f"the data has none of the {total} test tasks",
                remedy="name another folder with `--metadata superni=DIR`, or `peft-eval data get superni`",
            )
        if self.lacks(category) and not part_is_enough:
            raise DataError(
                f"{len(self.missing)} of the {total} test tasks are missing: {', '.join(self.missing)}",
                remedy="fetch them with `peft-eval data get superni`, or allow a part with "
                "`--metadata superni_partial=true`; the table then says how many there were",
            )


@functools.lru_cache(maxsize=4)
def evaluation_tasks(folder: Path, track: str) -> EvaluationTasks:
    """Reads a track's test tasks, once per process.

    Raises:
        DataError: files are broken or of another category than the official ones; all of them are named.
    """
    official = official_test_tasks(track)
    category_of = {name: category for category, names in official.items() for name in names}
    present = [name for name in category_of if task_file(folder, name)]
    found = read_tasks(folder, present, instances=EVALUATION_INSTANCES)
    raise_all(
        DataError(
            f"field 'Categories' says {task.category!r}, the official file {category_of[task.name]!r}",
            place=str(task_file(folder, task.name)),
            remedy="use the official files, `peft-eval data get superni`",
        )
        for task in found
        if task.category != category_of[task.name]
    )
    tasks: dict[str, list[Task]] = {category: [] for category in official}
    for task in found:
        tasks[task.category].append(task)
    return EvaluationTasks(track, tasks, tuple(sorted(category_of.keys() - set(present))))
