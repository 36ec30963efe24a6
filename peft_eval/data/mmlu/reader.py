"""Reads MMLU's CSV files in both forms that are about.

The original (hendrycks/test) has no header and a letter as its answer; exports from the Hub have a header and the
answer's index, 0 to 3. A file is of one form or the other, told by its first line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_eval.data.mmlu.subjects import all_subjects
from peft_eval.data.text_files import read_text
from peft_eval.errors import DataError, raise_all, unknown_name

LETTERS = "ABCD"
_REMEDY = "fetch the data with `peft-eval data get mmlu`"
_COLUMNS = 1 + len(LETTERS) + 1


@dataclass(frozen=True, slots=True)
class Question:
    """A question with four choices; `answer` is the right one's letter."""

    text: str
    choices: tuple[str, str, str, str]
    answer: str


def read_questions(folder: Path, part: str, subject: str) -> list[Question]:
    """Reads the questions of a subject.

    Args:
        folder: the folder with `test/` and `dev/`.
        part: `test`, or `dev` for the worked examples.
        subject: one of the 57.

    Raises:
        ConfigError: there is no such subject.
        DataError: the file is not there or has wrong rows; all of them are named, with their line.
    """
    if subject not in all_subjects():
        raise unknown_name("MMLU subject", subject, all_subjects())
    path = folder / part / f"{subject}_{part}.csv"
    reader = csv.reader(io.StringIO(read_text(path, _REMEDY), newline=""))
    questions: list[Question] = []
    errors: list[DataError] = []
    answers: dict[str, str] | None = None
    for row in _rows(reader, path):
        if not row:
            continue
        place = f"{path}:{reader.line_num}"
        if answers is None:
            header = len(row) == _COLUMNS and row[-1].strip().lower() in ("answer", "target")
            answers = dict(zip("0123", LETTERS, strict=True)) if header else dict(zip(LETTERS, LETTERS, strict=True))
            if header:
                continue
        problem = _problem(row, answers)
        if problem:
            errors.append(DataError(problem, place=place))
        else:
            questions.append(Question(row[0], (row[1], row[2], row[3], row[4]), answers[row[5].strip()]))
    raise_all(errors)
    if not questions:
        raise DataError("the file has no questions", place=str(path), remedy=_REMEDY)
    return questions


def _rows(reader: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:  # a cell of megabytes
        raise DataError(f"not a CSV file: {error}", place=f"{path}:{reader.line_num}", remedy=_REMEDY) from error


def _problem(row: list[str], answers: dict[str, str]) -> str | None:
    if len(row) != _COLUMNS:
        return f"{len(row)} columns, expected were {_COLUMNS}: question, four choices, answer"
    if row[-1].strip() not in answers:
        return f"the answer is {row[-1]!r}, expected was one of {', '.join(answers)}"
    return None
