"""TruthfulQA's questions with their true and false answers (sylinrl/TruthfulQA, Apache-2.0)."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from peft_eval.data.text_files import UNREADABLE
from peft_eval.errors import DataError, PeftEvalError, raise_all
from peft_eval.plain_files import MOST_DATA_BYTES, read_bounded

FILE = "TruthfulQA.csv"
_COLUMNS = ("Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers")


@dataclass(frozen=True, slots=True)
class Question:
    """A question.

    Attributes:
        text: verbatim.
        category: of 38.
        best: the best answer, with its full stop; one of `true`.
        true: the true answers, each with its full stop.
        false: likewise the false ones.
    """

    text: str
    category: str
    best: str
    true: tuple[str, ...]
    false: tuple[str, ...]


def read_questions(folder: Path) -> list[Question]:
    """Reads the questions in the file's order.

    Raises:
        DataError: the file is missing, lacks a column, or a question lacks answers.
        ManyErrors: several questions do.
    """
    file = folder / FILE
    try:
        with io.StringIO(read_bounded(file, MOST_DATA_BYTES).decode("utf-8"), newline="") as lines:
            reader = csv.DictReader(lines)
            lacking = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if lacking:
                raise DataError(f"no column {', '.join(lacking)}", place=str(file), remedy="use the original file")
            rows = list(reader)
    except (*UNREADABLE, csv.Error) as error:
        raise DataError(f"cannot be read: {error}", place=str(file), remedy="use the original file") from error
    if not rows:
        raise DataError("no questions in it", place=str(file), remedy="use the original file")
    errors: list[PeftEvalError] = []
    questions = [_question(row, f"{file}, question {number}", errors) for number, row in enumerate(rows, 1)]
    raise_all(errors)
    return [question for question in questions if question is not None]


def _question(row: dict[str, str | None], place: str, errors: list[PeftEvalError]) -> Question | None:
    category, text, best, true, false = (row[column] or "" for column in _COLUMNS)
    found = Question(text, category, next(iter(_answers(best, split=False)), ""), _answers(true), _answers(false))
    if not text.strip() or not found.true or not found.false:
        errors.append(DataError("it lacks its text, its true or its false answers", place=place))
    elif found.best not in found.true:
        errors.append(DataError(f"its best answer {found.best!r} is none of its true answers", place=place))
    else:
        return found
    return None


def _answers(text: str, split: bool = True) -> tuple[str, ...]:
    parts = (part.strip() for part in (text.split(";") if split else [text]))
    return tuple(part if part.endswith(".") else f"{part}." for part in parts if part)
