"""A report before it is written: rows, scores, comparisons, and what was said of the study elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from peft_eval.errors import DataError
from peft_eval.report.contamination import Contamination, contaminations
from peft_eval.report.differences import Pair, Selection, pairs_of, selection
from peft_eval.report.entry import Entry
from peft_eval.report.rows import Column, Row, columns_of, rows_of
from peft_eval.report.samples import Samples, pack_samples
from peft_eval.report.sensitivity import Sensitivity, sensitivities
from peft_eval.study.claims import Finding
from peft_eval.study.results import Run

Progress = Callable[[str, int], Callable[[], None]]


@dataclass
class Report:
    """All that the page, the tables and the plots show.

    Attributes:
        title: the study's.
        source: the file or folder it was made from.
        entries: every model and cell.
        columns: every score, the first of each suite being its main one.
        rows: of the main table: bases, full fine-tuning, then the rest.
        higher_is_better: of each score.
        selections: by each suite's main score, the rows that are compared with each other.
        pairs: by each suite's main score, the comparisons.
        sensitivities: by each suite's main score.
        samples: behind the scores.
        claims: of the papers, that the study asks about.
        contaminations: what the training data holds of the suites.
    """

    title: str
    source: str
    entries: list[Entry]
    columns: list[Column]
    rows: list[Row]
    higher_is_better: dict[Column, bool]
    samples: Samples
    selections: dict[Column, Selection] = field(default_factory=dict)
    pairs: dict[Column, list[Pair]] = field(default_factory=dict)
    sensitivities: dict[Column, list[Sensitivity]] = field(default_factory=dict)
    claims: list[Finding] = field(default_factory=list)
    contaminations: list[Contamination] = field(default_factory=list)

    @property
    def main_columns(self) -> list[Column]:
        """The first score of each suite."""
        first: dict[str, Column] = {}
        for column in self.columns:
            first.setdefault(column.suite, column)
        return list(first.values())

    @property
    def labels(self) -> list[str]:
        """The methods' labels, bases and full fine-tuning first."""
        return list(dict.fromkeys(row.label for row in self.rows))

    @property
    def bases(self) -> list[str]:
        """The base models."""
        return list(dict.fromkeys(row.first.base for row in self.rows))


def report_of(
    entries: Sequence[Entry],
    suites: Sequence[str],
    *,
    title: str,
    source: str,
    claims: Sequence[Finding] = (),
    most_samples: int,
    progress: Progress,
) -> Report:
    """Computes a report.

    Args:
        entries: what was evaluated.
        suites: to report, in this order.
        title: its headline.
        source: what it is made from.
        claims: those that the study itself answers.
        most_samples: samples to keep in the page.
        progress: called with a step's name and length; returns what to call as it goes on.

    Raises:
        DataError: there is no score, or a file is broken.
    """
    runs = [run for entry in entries for run in entry.runs]
    columns = columns_of(runs, suites)
    if not columns:
        raise DataError("nothing was evaluated yet", place=source, remedy="run `peft-eval study run` first")
    step = progress("scores", 1)
    order = {"base": 0, "full": 1}
    rows = sorted(rows_of(entries, columns), key=lambda row: order.get(row.kind, 2))
    step()
    better = {column: _higher_is_better(runs, column) for column in columns}
    samples = pack_samples(rows, columns, most=most_samples, step=progress("samples", len(rows)))
    report = Report(title, source, list(entries), columns, rows, better, samples)
    for column in report.main_columns:
        picked = selection(rows, column, higher_is_better=better[column])
        count = len(picked.rows) * (len(picked.rows) - 1) // 2
        report.selections[column] = picked
        report.pairs[column] = pairs_of(
            picked.rows, column, higher_is_better=better[column], step=progress(f"comparisons, {column.suite}", count)
        )
        report.sensitivities[column] = sensitivities(rows, column, higher_is_better=better[column])
    report.claims = list(claims)
    report.contaminations = contaminations(rows, report.main_columns)
    return report


def _higher_is_better(runs: Sequence[Run], column: Column) -> bool:
    tasks = (run.tasks_of(column.suite) for run in runs)
    return next(
        (run.higher_is_better(own[0], column.metric) for run, own in zip(runs, tasks, strict=True) if own), True
    )
