"""What the training data holds of the suites, as the manifests say, and the scores without those questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from peft_eval.report.rows import Column, Row
from peft_eval.study.contamination import overlapping, score_without


@dataclass(frozen=True)
class Contamination:
    """One suite and the training data of one row, or of all rows whose data holds nothing of it.

    Attributes:
        name: the row's, or how many rows.
        column: the suite and its main score.
        questions: of the suite that were looked for.
        overlapping: of them in the training data.
        score: over all questions; None for several rows.
        without: over the others; None if nothing overlaps, or the score is no mean over questions.
    """

    name: str
    column: Column
    questions: int
    overlapping: int
    score: float | None = None
    without: float | None = None


def contaminations(rows: Sequence[Row], columns: Sequence[Column]) -> list[Contamination]:
    """Returns a line for each row and suite with overlap, and one for all rows of a suite without.

    Args:
        rows: those whose manifest tells of no overlap, not even of none, are left out.
        columns: the main score of each suite.
    """
    found = []
    for column in columns:
        clean = []
        for row in rows:
            known = [
                (run, entry.manifest.overlap)
                for entry in row.entries
                if entry.manifest and entry.manifest.overlap and (run := entry.run_of(column.suite))
            ]
            if not known or column not in row.scores:
                continue
            held, questions = overlapping(column.suite, *known[0])
            if not questions:
                continue
            if not held:
                clean.append(questions)
                continue
            without = [score_without(run, *column, overlap) for run, overlap in known]
            scores = [score for score in without if score is not None]
            score = row.scores[column].value
            found.append(Contamination(row.name, column, questions, held, score, mean(scores) if scores else None))
        if clean:
            found.append(Contamination(f"{len(clean)} rows", column, max(clean), 0))
    return found
