"""The interval of one model's mean score, with questions and training seeds as sources of chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from peft_eval.study.paired import Part, Scores, part_of_seeds, parts_of_questions, pooled, task_weights

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
    labels, weights = task_weights(tasks, macro=macro)
    weighted = scores.mean(axis=0) * weights
    parts = parts_of_questions(weighted, labels)
    if len(scores) > 1:
        parts.append(part_of_seeds(scores @ weights))
    return _around(float(weighted.sum()), parts)


def of_seeds(values: Sequence[float]) -> Interval | None:
    """Returns the interval of a mean over seeds alone, for scores that are no mean over questions."""
    if len(values) < 2:
        return None
    return _around(float(np.mean(values)), [part_of_seeds(np.array(values))])


def _around(mean: float, parts: Sequence[Part]) -> Interval | None:
    if not parts:
        return None
    error, freedom = pooled(parts)
    if error <= 0:
        return Interval(mean, mean)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Interval(mean - reach, mean + reach)
