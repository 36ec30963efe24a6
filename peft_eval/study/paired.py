"""Whether two models differ, from their scores on the same questions: intervals, tests, correction for many tests.

Pairing takes out how hard each question is, which is most of the spread of a score (Miller 2024, arXiv 2411.00640).
With one training run a side, an interval speaks of other questions of the same tasks, and of these two runs alone. With
several seeds a side, it speaks of other seeds as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Scores = NDArray[np.float64]
RESAMPLES = 10_000
_AT_ONCE = 2**22  # numbers drawn at once: 32 MB


@dataclass(frozen=True, slots=True)
class Difference:
    """B minus A, in the scores' own unit.

    Attributes:
        first, second: mean scores of A and B.
        low, high: the interval's ends.
        p_value: two-sided.
        test: `mcnemar`, `permutation` or `welch`, which says where the p-value comes from.
        questions: how many both answered.
        seeds: training runs of A and of B.
    """

    first: float
    second: float
    low: float
    high: float
    p_value: float
    test: str
    questions: int
    seeds: tuple[int, int]

    @property
    def value(self) -> float:
        """The difference of the means."""
        return self.second - self.first


def compare(
    first: Scores, second: Scores, tasks: Sequence[object], *, macro: bool = False, level: float = 0.95, seed: int = 0
) -> Difference:
    """Compares two models.

    Args:
        first: (seeds of A, questions) scores.
        second: (seeds of B, questions) scores on the same questions.
        tasks: (questions,) the task of each.
        macro: every task counts the same, instead of every question.
        level: the interval's coverage.
        seed: seeds the resampling.

    Returns:
        The difference. One seed a side: a percentile bootstrap over the questions of each task, and the exact McNemar
        test for scores of right or wrong, else, and for macro means, a sign-flip permutation test. Several seeds on
        both sides: Welch's t, its variance being that of the questions plus that of each side's seeds. Several on one
        side alone say nothing of the other side's spread: their mean is compared as if it were one run.

    Raises:
        ValueError: no question, or shapes that differ.
    """
    if first.shape[1:] != second.shape[1:] or first.shape[1:] != (len(tasks),) or not len(tasks):
        raise ValueError(f"scores {first.shape} and {second.shape} of {len(tasks)} questions")
    labels, weights = task_weights(tasks, macro=macro)
    differences = second.mean(axis=0) - first.mean(axis=0)
    seeds = (len(first), len(second))
    if min(seeds) > 1:
        low, high, p_value = _welch(first, second, differences, labels, weights, level)
        test = "welch"
    else:
        rng = np.random.default_rng(seed)
        low, high = _bootstrap(differences, labels, weights, level, rng)
        test, p_value = _single(first, second, differences * weights, macro, rng)
    means = (float(first.mean(axis=0) @ weights), float(second.mean(axis=0) @ weights))
    return Difference(*means, low, high, p_value, test, len(tasks), seeds)


def task_weights(tasks: Sequence[object], *, macro: bool) -> tuple[NDArray[np.intp], Scores]:
    """Returns the number of each question's task, and what each question counts for in the mean, both (questions,)."""
    labels = np.unique(np.asarray(tasks, dtype=str), return_inverse=True)[1]
    counts = np.bincount(labels)
    return labels, 1 / (counts[labels] * len(counts)) if macro else np.full(len(labels), 1 / len(labels))


Part = tuple[float, int]  # a variance of the mean, and its degrees of freedom


def parts_of_questions(weighted: Scores, labels: NDArray[np.intp]) -> list[Part]:
    """Returns the variance that drawing other questions gives a mean, a part for each task of more than one question.

    Args:
        weighted: (questions,) scores times weights.
        labels: (questions,) the number of each question's task.
    """
    tasks = (weighted[labels == task] for task in range(int(labels.max()) + 1))
    return [(float(own.var(ddof=1)) * len(own), len(own) - 1) for own in tasks if len(own) > 1]


def part_of_seeds(means: Scores) -> Part:
    """Returns the variance that other seeds give a mean, from the means of two seeds or more."""
    return float(means.var(ddof=1)) / len(means), len(means) - 1


def pooled(parts: Sequence[Part]) -> tuple[float, float]:
    """Returns the standard error of a mean with these variances, and its degrees of freedom (Welch, Satterthwaite)."""
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return 0.0, 0.0
    return float(np.sqrt(variance)), variance**2 / sum(part**2 / degrees for part, degrees in parts)


def _bootstrap(
    differences: Scores, labels: NDArray[np.intp], weights: Scores, level: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Returns the percentile interval, questions drawn anew within each task."""
    means = np.zeros(RESAMPLES)
    for task in range(int(labels.max()) + 1):
        own = (differences * weights)[labels == task]
        rows = max(1, _AT_ONCE // len(own))
        for start in range(0, RESAMPLES, rows):
            part = means[start : start + rows]
            part += own[rng.integers(len(own), size=(len(part), len(own)))].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _single(
    first: Scores, second: Scores, contributions: Scores, macro: bool, rng: np.random.Generator
) -> tuple[str, float]:
    one_run = len(first) == len(second) == 1
    if one_run and not macro and len(np.unique(np.concatenate([first, second]))) <= 2:
        only_first, only_second = int((first > second).sum()), int((second > first).sum())
        discordant = only_first + only_second
        return "mcnemar", float(stats.binomtest(only_second, discordant).pvalue) if discordant else 1.0
    moved = contributions[contributions != 0]
    if not len(moved):
        return "permutation", 1.0
    observed, extreme = abs(moved.sum()), 0
    rows = max(1, _AT_ONCE // len(moved))
    for start in range(0, RESAMPLES, rows):
        signs = rng.integers(2, size=(min(rows, RESAMPLES - start), len(moved)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ moved) >= observed * (1 - 1e-12)).sum())
    return "permutation", (extreme + 1) / (RESAMPLES + 1)


def _welch(
    first: Scores,
    second: Scores,
    differences: Scores,
    labels: NDArray[np.intp],
    weights: Scores,
    level: float,
) -> tuple[float, float, float]:
    """Returns interval and p-value with questions and seeds as sources of chance (Welch and Satterthwaite)."""
    parts = [*parts_of_questions(differences * weights, labels), part_of_seeds(first @ weights)]
    parts.append(part_of_seeds(second @ weights))
    value = float(differences @ weights)
    error, freedom = pooled(parts)
    if error <= 0:
        return value, value, float(value == 0)
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return value - reach, value + reach, float(2 * stats.t.sf(abs(value) / error, freedom))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values corrected for having made all these tests (Holm 1979), in the given order."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    least = 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return [float(p) for p in corrected]
