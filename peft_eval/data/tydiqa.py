"""Reads TyDiQA's gold passage task, as the official JSON (v1.1) or as the Hub's Parquet or JSON Lines.

The official files are in SQuAD's form; the Hub's `secondary_task` has the same questions, in the same order, one a row.
A question's language is the first part of its id, `arabic-2387335860751143628-1`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_eval.data.text_files import parquet_batches, read_json, read_json_lines
from peft_eval.errors import DataError, raise_all
from peft_eval.plain_files import UnsafeFileError

LANGUAGES = ("arabic", "bengali", "english", "finnish", "indonesian", "korean", "russian", "swahili", "telugu")
# Where each part may be, the first that is there counts.
_PATTERNS = {
    "train": ("tydiqa-goldp-*train*.json", "*train*.parquet", "secondary_task/*train*.parquet", "*train*.jsonl"),
    "dev": (
        "tydiqa-goldp-*dev*.json",
        "*validation*.parquet",
        "secondary_task/*validation*.parquet",
        "*validation*.jsonl",
    ),
}
_REMEDY = "fetch the data with `peft-eval data get tydiqa`"


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its gold passage and every answer given for it."""

    id: str
    language: str
    passage: str
    question: str
    answers: tuple[str, ...]


def read_part(folder: Path, part: str) -> list[Question]:
    """Reads `train` or `dev`, in file order.

    Raises:
        DataError: there is no such file, or it is broken; every broken question is named.
    """
    path = next((path for pattern in _PATTERNS[part] for path in sorted(folder.glob(pattern))), None)
    if path is None:
        raise DataError(
            f"no file of the {part} part: {' or '.join(_PATTERNS[part])}", place=str(folder), remedy=_REMEDY
        )
    questions: list[Question] = []
    errors: list[DataError] = []
    for place, row in _rows(path):
        problem = _problem(row)
        if problem:
            errors.append(DataError(problem, place=f"{path}: {place}"))
        else:
            questions.append(
                Question(
                    row["id"],
                    row["id"].split("-")[0],
                    row["context"],
                    row["question"],
                    tuple(row["answers"]["text"]),
                )
            )
    raise_all(errors)
    if not questions:
        raise DataError("the file has no questions", place=str(path), remedy=_REMEDY)
    return questions


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields place and row in the Hub's form."""
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.suffix == ".jsonl":
        for number, row in enumerate(read_json_lines(path, ("id",), _REMEDY), start=1):
            yield f"row {number}", row
    else:
        content = read_json(path, _REMEDY)
        try:
            for a, article in enumerate(content["data"]):
                for p, paragraph in enumerate(article["paragraphs"]):
                    for q, qa in enumerate(paragraph["qas"]):
                        answers = {"text": [answer["text"] for answer in qa["answers"]]}
                        row = {"context": paragraph["context"], **qa, "answers": answers}
                        yield f"data[{a}].paragraphs[{p}].qas[{q}]", row
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"not in the form of the gold passage task: {error!r}", place=str(path), remedy=_REMEDY
            ) from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    columns = ["id", "context", "question", "answers"]
    number = 0
    try:
        missing = set(columns) - set(pyarrow.parquet.read_schema(path).names)
        if missing:
            raise DataError(f"no column {' and '.join(sorted(missing))}", place=str(path), remedy=_REMEDY)
        for batch in parquet_batches(path, columns):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pyarrow.ArrowException, OSError, UnsafeFileError) as error:
        raise DataError(f"not a readable Parquet file: {error}", place=str(path), remedy=_REMEDY) from error


def _problem(row: dict[str, Any]) -> str | None:
    wrong = [key for key in ("id", "context", "question") if not isinstance(row.get(key), str)]
    if wrong:
        return f"no text in {' and '.join(wrong)}"
    answers = row.get("answers")
    texts = answers.get("text") if isinstance(answers, dict) else None
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        return "no list of texts in answers.text"
    language = row["id"].split("-")[0]
    return None if language in LANGUAGES else f"the id {row['id']!r} begins with none of {', '.join(LANGUAGES)}"
