"""What came of a study's cells: runs that differ in their seed alone as one arm, with their scores and manifests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from peft_eval.checkpoint.manifest import Manifest
from peft_eval.study.cells import alike
from peft_eval.study.comparing import align
from peft_eval.study.paired import Difference, Scores, compare, task_weights
from peft_eval.study.results import Run
from peft_eval.study.store import CellFolder
from peft_eval.study.study import Study
from peft_eval.training.states import kept_checkpoints


@dataclass(frozen=True)
class Arm:
    """Runs of one method in one place of the grid.

    Attributes:
        label: the method's label in the study.
        method: the method.
        coordinates: its value on every axis but the seed.
        folders: the cells, one a seed.
    """

    label: str
    method: str
    coordinates: Mapping[str, Any]
    folders: tuple[CellFolder, ...]

    @property
    def name(self) -> str:
        """How to call it: `lora rank=8`."""
        return " ".join([self.label, *(f"{axis}={value}" for axis, value in self.coordinates.items())])

    @cached_property
    def manifests(self) -> list[Manifest]:
        """The manifests of the cells that are done."""
        return [Manifest.read(folder.checkpoint) for folder in self.folders if folder.trained]


@dataclass(frozen=True)
class Answers:
    """Scores of several runs on the questions that all of them were asked.

    Attributes:
        scores: (runs, questions).
        tasks: (questions,) the task of each.
        macro: whether the suite's number is a mean over tasks.
    """

    scores: Scores
    tasks: Sequence[str]
    macro: bool


class Outcomes:
    """The results of a study.

    Args:
        study: the study.
    """

    def __init__(self, study: Study):
        self.study = study

    @cached_property
    def arms(self) -> list[Arm]:
        """Every arm, in the study's order."""
        return _arms(self.study.folder_of(cell) for cell in self.study.cells())

    @cached_property
    def best(self) -> list[Arm]:
        """The arms that the study's rule chose; all of them without a rule."""
        if self.study.file.choose is None:
            return self.arms
        chosen = {choice.chosen.id for choice in self.study.choices() if choice.chosen}
        return [arm for arm in self.arms if any(folder.cell.id in chosen for folder in arm.folders)]

    @property
    def bases(self) -> list[str]:
        """The base models."""
        return list(dict.fromkeys(cell.spec.base for cell in self.study.grid))

    def runs(self, arm: Arm, suite: str) -> list[Run]:
        """Returns an arm's newest run of a suite, one a seed, without those that have none."""
        return self._newest([str(folder.checkpoint) for folder in arm.folders], suite)

    def runs_of_base(self, base: str, suite: str) -> list[Run]:
        """Returns a base's newest run of a suite, if there is one."""
        return self._newest([base], suite)

    def runs_on_the_way(self, arm: Arm, suite: str) -> dict[int, list[Run]]:
        """Returns the runs of the checkpoints that were kept on the way, by step."""
        steps: dict[int, list[str]] = {}
        for folder in arm.folders:
            for step, kept in kept_checkpoints(folder.checkpoint).items():
                steps.setdefault(step, []).append(str(kept))
        found = {step: self._newest(kept, suite) for step, kept in sorted(steps.items())}
        return {step: runs for step, runs in found.items() if runs}

    def _newest(self, references: Iterable[str], suite: str) -> list[Run]:
        found = (self.study.evaluations.run(reference, suite) for reference in references)
        return [run for run in found if run is not None]


def answers(suite: str, metric: str, sides: Sequence[Sequence[Run]]) -> tuple[Answers, ...] | None:
    """Returns what each side scored on the questions that all runs of all sides were asked.

    Args:
        suite: a task or group.
        metric: lm-eval's metric and filter, `rougeL,none`.
        sides: runs of one arm each.

    Returns:
        One `Answers` a side; None if a side has no run, or the suite's number is no mean over questions.
    """
    if not sides or not all(sides):
        return None
    aligned = align(suite, metric, [run for side in sides for run in side])
    if not aligned.tasks or aligned.macro is None:
        return None
    parts, start = [], 0
    for side in sides:
        parts.append(Answers(aligned.scores[start : start + len(side)], aligned.tasks, aligned.macro))
        start += len(side)
    return tuple(parts)


def difference(first: Answers, second: Answers) -> Difference:
    """Returns the second side minus the first, as `peft_eval.study.paired.compare` has it."""
    return compare(first.scores, second.scores, first.tasks, macro=first.macro)


def gap(first: Answers, second: Answers) -> Answers:
    """Returns per question how far the second side is ahead, seeds paired in order, as scores to compare further."""
    seeds = min(len(first.scores), len(second.scores))
    return Answers(second.scores[:seeds] - first.scores[:seeds], first.tasks, first.macro)


def mean(side: Answers) -> float:
    """Returns a side's score, the mean over its runs."""
    return float(side.scores.mean(axis=0) @ task_weights(side.tasks, macro=side.macro)[1])


def _arms(folders: Iterable[CellFolder]) -> list[Arm]:
    groups = alike(folders, lambda folder: (folder.cell.label, folder.cell.place))
    return [Arm(group[0].cell.label, group[0].cell.spec.method, group[0].cell.place, tuple(group)) for group in groups]
