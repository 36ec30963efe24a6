"""How much a method's score depends on its learning rate: the best one, and what the others cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean

from peft_eval.report.entry import ENDED
from peft_eval.report.rows import Column, Row
from peft_eval.report.settings import rate_of, setting_of


@dataclass(frozen=True)
class Sensitivity:
    """One setting of a method at several learning rates.

    Attributes:
        setting: the label with its other coordinates.
        base: the base model.
        rates: how many have a score, or failed.
        best_rate: the one with the best score; what the study's rule chose, where it decided.
        best: the score there.
        beside: the mean score at the next lower and the next higher rate; None where both have none.
        worst: of all scores.
        ended: rates without a score because the run failed or diverged.
    """

    setting: str
    base: str
    rates: int
    best_rate: float
    best: float
    beside: float | None
    worst: float
    ended: int


def sensitivities(rows: Iterable[Row], column: Column, *, higher_is_better: bool) -> list[Sensitivity]:
    """Returns a line for each setting with a score of which more than one learning rate was asked, or failed."""
    groups: dict[tuple[str, str], dict[float, Row]] = {}
    for row in rows:
        if (rate := rate_of(row)) is not None:
            groups.setdefault((setting_of(row), row.first.base), {})[rate] = row
    found = []
    for (setting, base), by_rate in groups.items():
        rates = sorted(by_rate)
        scores = {rate: by_rate[rate].scores[column].value for rate in rates if column in by_rate[rate].scores}
        ended = sum(by_rate[rate].first.status in ENDED for rate in rates)
        if not scores or len(scores) + ended < 2:
            continue
        ordered = sorted(scores, key=lambda rate: scores[rate], reverse=higher_is_better)
        best = next((rate for rate in scores if by_rate[rate].first.chosen), ordered[0])
        at = rates.index(best)
        beside = [scores[rate] for rate in [*rates[max(0, at - 1) : at], *rates[at + 1 : at + 2]] if rate in scores]
        found.append(
            Sensitivity(
                setting=setting,
                base=base,
                rates=len(scores) + ended,
                best_rate=best,
                best=scores[best],
                beside=mean(beside) if beside else None,
                worst=scores[ordered[-1]],
                ended=ended,
            )
        )
    return found
