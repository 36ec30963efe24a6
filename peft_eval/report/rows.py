"""The rows of the main table: entries that differ in their seed alone are one, with the mean and its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, NamedTuple

from peft_eval.harness.score_table import score_columns
from peft_eval.report.entry import Entry, Kind
from peft_eval.report.interval import of_questions, of_seeds
from peft_eval.study.cells import alike
from peft_eval.study.comparing import align
from peft_eval.study.results import Run


class Column(NamedTuple):
    """A score: the suite's or task's name and lm-eval's metric, `rougeL,none`."""

    suite: str
    metric: str

    @property
    def shown(self) -> str:
        """The metric as people call it."""
        return self.metric.removesuffix(",none")


@dataclass(frozen=True)
class Score:
    """A mean score.

    Attributes:
        value: as lm-eval's table has it, averaged over seeds.
        low, high: the 95% interval over questions and seeds; None where there is nothing to judge by.
        questions: how many all seeds answered.
        seeds: training runs.
    """

    value: float
    low: float | None
    high: float | None
    questions: int
    seeds: int


@dataclass(frozen=True)
class Row:
    """Entries that differ in their seed alone.

    Attributes:
        id: a name for links, `r0`.
        entries: one a seed.
        scores: those that there are.
    """

    id: str
    entries: tuple[Entry, ...]
    scores: dict[Column, Score] = field(default_factory=dict)

    @property
    def first(self) -> Entry:
        """The first seed's entry, for what all seeds share."""
        return self.entries[0]

    @property
    def label(self) -> str:
        """The method's label."""
        return self.first.label

    @property
    def kind(self) -> Kind:
        """What was trained."""
        return self.first.kind

    @property
    def name(self) -> str:
        """The label with all coordinates."""
        return " ".join([self.label, *(f"{axis}={short(value)}" for axis, value in self.first.coordinates.items())])

    def mean_of(self, cost: Callable[[Entry], float | None]) -> float | None:
        """Returns the mean of a cost over the seeds that have it."""
        known = [value for value in map(cost, self.entries) if value is not None]
        return mean(known) if known else None


def rows_of(entries: Iterable[Entry], columns: Sequence[Column]) -> list[Row]:
    """Joins entries to rows, in the order in which they come first, and scores them."""
    settings = alike(entries, lambda entry: (entry.label, entry.base, entry.coordinates))
    rows = []
    for number, group in enumerate(part for setting in settings for part in _seed_by_seed(setting)):
        scores = {column: score for column in columns if (score := score_of(group, column)) is not None}
        rows.append(Row(f"r{number}", tuple(group), scores))
    return rows


def _seed_by_seed(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Returns the first entry of each seed together; a second run with the same seed is no further seed."""
    runs = alike(entries, lambda entry: (entry.seed,))
    return [[own[0] for own in runs], *([again] for own in runs for again in own[1:])]


def columns_of(runs: Iterable[Run], suites: Sequence[str]) -> list[Column]:
    """Returns the scores that runs have in suites, in the suites' order."""
    tables = [dict(run.table) for run in runs]
    found = [Column(*one) for one in score_columns(tables, suites) if one[0] in suites]
    return sorted(found, key=lambda column: suites.index(column.suite))


def score_of(entries: Sequence[Entry], column: Column) -> Score | None:
    """Returns the score of entries that differ in their seed alone; None if no run has it."""
    runs = [run for entry in entries if (run := entry.run_of(column.suite))]
    reported = [(run, value) for run in runs if (value := run.reported(*column)) is not None]
    if not reported:
        return None
    values = [value for _, value in reported]
    aligned = align(*column, [run for run, _ in reported])
    if aligned.macro is None or not aligned.tasks:
        interval = of_seeds(values)
    else:
        interval = of_questions(aligned.scores, aligned.tasks, macro=aligned.macro)
    low, high = interval or (None, None)
    return Score(mean(values), low, high, len(aligned.tasks), len(values))


def short(value: Any) -> str:
    """Returns a setting as short as it can be read."""
    return f"{value:g}" if isinstance(value, float) else str(value)
