"""How well the loss on an instance tells whether it was trained on: membership AUC and loss gap, task by task.

Tasks differ in difficulty far more than memory changes a loss, so trained and held-out instances are compared within
their task alone. The AUC is the Mann-Whitney statistic: the chance that a trained instance of a task has a lower loss
than a held-out one of the same task, a tie counting half. 0.5 is chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, NamedTuple


class Measured(NamedTuple):
    """One instance: its task, whether it was trained on, and the loss per token of its answer."""

    task: str
    trained: bool
    loss: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its standard error, which is None where there are too few instances to tell."""

    value: float
    standard_error: float | None


def membership_auc(measured: Iterable[Measured]) -> Estimate:
    """Returns the AUC over all pairs within a task, with DeLong's standard error.

    Per task the variance is that of DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44, 837-845): the sample
    variances of the instances' own placements. Tasks are independent and weigh by their pairs. With a single instance
    on one side there is no sample variance; its greatest possible value A(1-A)/min(m, n) stands in.

    Raises:
        ValueError: no task has both trained and held-out instances.
    """
    strata = _by_task(measured)
    pairs = sum(len(trained) * len(held_out) for trained, held_out in strata)
    if not pairs:
        raise ValueError("no task has both trained and held-out instances")
    value = error = 0.0
    for trained, held_out in strata:
        share = len(trained) * len(held_out) / pairs
        area, spread = _delong(trained, held_out)
        value += share * area
        error += share**2 * spread
    return Estimate(value, math.sqrt(error))


def loss_gap(measured: Iterable[Measured]) -> Estimate:
    """Returns the mean over tasks of (mean held-out loss - mean trained loss), in nats per token.

    Raises:
        ValueError: no task has both trained and held-out instances.
    """
    strata = _by_task(measured)
    if not strata:
        raise ValueError("no task has both trained and held-out instances")
    gaps = [fmean(held_out) - fmean(trained) for trained, held_out in strata]
    if any(len(losses) < 2 for stratum in strata for losses in stratum):
        return Estimate(fmean(gaps), None)
    spread = sum(variance(losses) / len(losses) for stratum in strata for losses in stratum)
    return Estimate(fmean(gaps), math.sqrt(spread) / len(strata))


def _by_task(measured: Iterable[Measured]) -> list[tuple[list[float], list[float]]]:
    """Returns (losses of trained, losses of held-out) of each task that has both."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for item in measured:
        found.setdefault(item.task, ([], []))[not item.trained].append(item.loss)
    return [stratum for stratum in found.values() if all(stratum)]


def _delong(trained: Sequence[float], held_out: Sequence[float]) -> tuple[float, float]:
    """Returns AUC and variance of one task, by midranks (Sun and Xu 2014, IEEE SPL 21, 1389-1393)."""
    import numpy as np

    m, n = len(trained), len(held_out)
    scores = -np.array([*trained, *held_out])  # the lower the loss, the more likely trained on
    together = _midranks(scores)
    of_trained = (together[:m] - _midranks(scores[:m])) / n
    of_held_out = 1 - (together[m:] - _midranks(scores[m:])) / m
    area = float(of_trained.mean())
    if min(m, n) < 2:
        return area, area * (1 - area) / min(m, n)
    return area, float(of_trained.var(ddof=1) / m + of_held_out.var(ddof=1) / n)


def _midranks(values: Any) -> Any:
    """Returns each value's rank from 1, equal values sharing the mean of theirs."""
    import numpy as np

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
