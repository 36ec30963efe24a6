"""Two models on everything both were asked: for each suite or task the paired difference and what it decides."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from peft_eval.errors import DataError, first_few
from peft_eval.study.paired import Difference, Scores, compare, holm
from peft_eval.study.results import Run

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Row:
    """A comparison in one suite or task, by one metric.

    Attributes:
        name: the group's or task's.
        metric: lm-eval's metric and filter, `rougeL,none`.
        difference: B minus A.
        corrected: the p-value, corrected for all rows (Holm).
        higher_is_better: which way is better.
    """

    name: str
    metric: str
    difference: Difference
    corrected: float
    higher_is_better: bool

    @property
    def verdict(self) -> str:
        """`A better`, `B better` or `not decisive`."""
        if not self.corrected < ALPHA:
            return "not decisive"
        return "B better" if (self.difference.value > 0) == self.higher_is_better else "A better"


class Comparison(NamedTuple):
    """All rows, and what could not be compared or is worth knowing."""

    rows: list[Row]
    notes: list[str]


def compare_runs(
    first: Sequence[Run],
    second: Sequence[Run],
    *,
    by_task: bool = False,
    metrics: Collection[str] = (),
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares runs of A with runs of B, several of a side being its seeds.

    Args:
        first: A's runs.
        second: B's runs.
        by_task: a row for each task within a group as well.
        metrics: these alone, as `rougeL` or `rougeL,none`; empty for all.
        level: the intervals' coverage.
        seed: seeds the resampling.

    Raises:
        DataError: the runs have no question in common.
    """
    found: list[tuple[str, str, Difference, bool]] = []
    notes = _only_in_some([*first, *second])
    for name in _names(first, second, by_task):
        tasks = first[0].tasks_of(name)
        for metric in _metrics(tasks, [*first, *second]):
            if metrics and not {metric, metric.split(",")[0]} & set(metrics):
                continue
            paired = align(name, metric, [*first, *second])
            if not paired.tasks:
                notes.append(f"{name}, {metric}: no question is in all runs")
                continue
            if paired.left_out:
                notes.append(f"{name}, {metric}: {paired.left_out} questions are not in all runs and are left out")
            if paired.macro is None:
                notes.append(f"{name}, {metric}: the table's number is no mean over questions; not compared")
                continue
            sides = paired.scores[: len(first)], paired.scores[len(first) :]
            difference = compare(*sides, paired.tasks, macro=paired.macro, level=level, seed=seed)
            found.append((name, metric, difference, first[0].higher_is_better(tasks[0], metric)))
    if not found:
        raise DataError(
            "the runs have no scored question in common",
            place=f"{first[0].folder} and {second[0].folder}",
            remedy="compare runs of the same tasks" + (f" ({notes[0]})" if notes else ""),
        )
    corrected = holm([difference.p_value for _, _, difference, _ in found])
    rows = [
        Row(name, metric, difference, p, better)
        for (name, metric, difference, better), p in zip(found, corrected, strict=True)
    ]
    return Comparison(rows, notes)


def _names(first: Sequence[Run], second: Sequence[Run], by_task: bool) -> list[str]:
    """Returns groups that all runs have, and the tasks outside of them, or all tasks."""
    runs = [*first, *second]
    groups = [group for group in first[0].groups if all(run.tasks_of(group) for run in runs)]
    inside = {task for group in groups for task in first[0].tasks_of(group)}
    tasks = [task for task in first[0].files if all(task in run.files for run in runs)]
    return groups + [task for task in tasks if by_task or task not in inside]


def _only_in_some(runs: Sequence[Run]) -> list[str]:
    missing = sorted({task for run in runs for task in run.files if not all(task in other.files for other in runs)})
    return [f"not in all runs, left out: {first_few(missing)}"] if missing else []


def _metrics(tasks: Sequence[str], runs: Sequence[Run]) -> list[str]:
    """Returns the metrics that every task has in every run."""
    each = [run.scores[task] for task in tasks for run in runs if run.scores.get(task)]
    return [metric for metric in each[0] if all(metric in scores for scores in each)] if each else []


class Aligned(NamedTuple):
    """Scores of several runs on the questions that all of them were asked.

    Attributes:
        scores: (runs, questions).
        tasks: (questions,) the task of each.
        macro: whether the table's number is a mean over tasks; None if it is no mean over questions either.
        left_out: how many questions only some runs were asked.
    """

    scores: Scores
    tasks: list[str]
    macro: bool | None
    left_out: int


def align(name: str, metric: str, runs: Sequence[Run]) -> Aligned:
    """Puts the scores of runs side by side.

    Args:
        name: a task or group.
        metric: lm-eval's metric and filter, `rougeL,none`.
        runs: the runs.
    """
    tasks = runs[0].tasks_of(name)
    labels: list[str] = []
    columns: list[list[float]] = []
    left_out = 0
    for task in tasks:
        asked = [run.scores.get(task, {}).get(metric, {}) for run in runs]
        common = [question for question in asked[0] if all(question in one for one in asked)]
        left_out += len(set().union(*asked)) - len(common)
        labels += [task] * len(common)
        columns += [[one[question] for one in asked] for question in common]
    scores = np.array(columns, dtype=np.float64).reshape(len(columns), len(runs)).T
    return Aligned(scores, labels, is_macro(runs[0], name, metric), left_out)


def is_macro(run: Run, name: str, metric: str) -> bool | None:
    """Tells how lm-eval's own number came about: a mean over tasks or over questions; None: neither."""
    reported = run.reported(name, metric)
    means = [list(run.scores[task][metric].values()) for task in run.tasks_of(name) if metric in run.scores[task]]
    if reported is None or not means:
        return None
    for macro, value in _candidates(means):
        if math.isclose(value, reported, rel_tol=1e-6, abs_tol=1e-9):
            return macro
    return None


def _candidates(scores: list[list[float]]) -> Iterator[tuple[bool, float]]:
    yield False, float(np.mean([score for task in scores for score in task]))
    yield True, float(np.mean([np.mean(task) for task in scores]))
