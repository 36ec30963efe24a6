"""The interval of one model's mean score, with questions and training seeds as sources of chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from peft_eval.study.paired import Scores

LEVEL = 0.95


class Interval(NamedTuple):
    """Ends of an interval around a mean."""

    low: float
    high: float


def of_questions(scores: Scores, tasks: Sequence[object], *, macro: bool) -> Interval | None:
    """Returns the interval of a mean over questions, drawn within their tasks, and over seeds.

    Variances of the two are added, with Welch and Satterthwaite's degrees of freedom, as in `peft_eval.study.paired`.

    Args:
        scores: (seeds, questions) scores.
        tasks: (questions,) the task of each.
        macro: every task counts the same, instead of every question.

    Returns:
        None where one question a task leaves nothing to judge by.
    """
    labels = np.unique(np.asarray(tasks, dtype=str), return_inverse=True)[1]
    counts = np.bincount(labels)
    weights = 1 / (counts[labels] * len(counts)) if macro else np.full(len(labels), 1 / len(labels))
    weighted = scores.mean(axis=0) * weights
    parts = []  # (variance of the mean, degrees of freedom)
    for task, count in enumerate(counts):
        if count > 1:
            parts.append((float(weighted[labels == task].var(ddof=1)) * count, count - 1))
    if len(scores) > 1:
        parts.append(_of_seeds(scores @ weights))
    return _around(float(weighted.sum()), parts)


def of_seeds(values: Sequence[float]) -> Interval | None:
    """Returns the interval of a mean over seeds alone, for scores that are no mean over questions."""
    if len(values) < 2:
        return None
    return _around(float(np.mean(values)), [_of_seeds(np.array(values))])


def _of_seeds(values: Scores) -> tuple[float, int]:
    return float(values.var(ddof=1)) / len(values), len(values) - 1


def _around(mean: float, parts: Sequence[tuple[float, int]]) -> Interval | None:
    if not parts:
        return None
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return Interval(mean, mean)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * float(np.sqrt(variance))
    return Interval(mean - reach, mean + reach)
