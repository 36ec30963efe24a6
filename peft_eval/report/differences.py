"""Every row against every other on the same questions, corrected for having compared them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from peft_eval.errors import DataError
from peft_eval.report.rows import Column, Row
from peft_eval.study.comparing import ALPHA, compare_runs
from peft_eval.study.paired import Difference, holm

MOST_ROWS = 12  # 66 pairs


@dataclass(frozen=True)
class Pair:
    """Two rows compared by one score: the second minus the first.

    Attributes:
        column: the score.
        first, second: the rows.
        difference: with interval and test.
        corrected: the p-value, corrected for all pairs of this score (Holm).
        higher_is_better: which way is better.
    """

    column: Column
    first: Row
    second: Row
    difference: Difference
    corrected: float
    higher_is_better: bool

    @property
    def better(self) -> Row | None:
        """The better row; None where the difference is not decisive."""
        if not self.corrected < ALPHA:
            return None
        return self.second if (self.difference.value > 0) == self.higher_is_better else self.first


class Selection(NamedTuple):
    """Rows to compare, and how they were picked."""

    rows: list[Row]
    how: str


def selection(rows: Sequence[Row], column: Column, *, higher_is_better: bool) -> Selection:
    """Returns the rows worth comparing by a score: all, or where those are too many one for each method and base."""
    scored = [row for row in rows if column in row.scores]
    decided = [row for row in scored if row.first.chosen or row.kind in ("base", "other")]
    if any(row.first.chosen for row in scored):
        scored, how = decided, "what the study's rule chose"
    else:
        how = "all rows"
    if len(scored) > MOST_ROWS:
        best: dict[tuple[str, str], Row] = {}
        for row in sorted(scored, key=lambda row: row.scores[column].value, reverse=higher_is_better):
            best.setdefault((row.label, row.first.base), row)
        kept = list(best.values())[:MOST_ROWS]
        scored = [row for row in scored if row in kept]
        how += "; of each method the best by this very score, which flatters it"
    return Selection(scored, how)


def pairs_of(rows: Iterable[Row], column: Column, *, higher_is_better: bool, step: Callable[[], None]) -> list[Pair]:
    """Compares each two rows by a score; those without a question in common are left out.

    Args:
        rows: to be compared.
        column: the score.
        higher_is_better: which way is better.
        step: is called after each pair.
    """
    found = []
    for first, second in combinations(rows, 2):
        sides = [[run for entry in row.entries if (run := entry.run_of(column.suite))] for row in (first, second)]
        difference = _difference(sides, column)
        if difference:
            found.append((first, second, difference))
        step()
    corrected = holm([difference.p_value for _, _, difference in found])
    return [
        Pair(column, first, second, difference, p, higher_is_better)
        for (first, second, difference), p in zip(found, corrected, strict=True)
    ]


def _difference(sides: Sequence[Sequence], column: Column) -> Difference | None:
    try:
        rows, _ = compare_runs(*sides, metrics=[column.metric])
    except DataError:
        return None
    return next((row.difference for row in rows if row.name == column.suite), None)
