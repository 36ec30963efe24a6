"""Reads GSM8K (openai/grade-school-math): a question and a worked answer a line, the result after `####`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peft_eval.data.text_files import read_json_lines
from peft_eval.errors import DataError, raise_all

_REMEDY = "fetch the data with `peft-eval data get gsm8k`"
_MARK = "####"


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem: the question, its worked answer, and the result as written, such as `1,450`."""

    question: str
    solution: str
    result: str


def read_problems(folder: Path, part: str = "test") -> list[Problem]:
    """Reads `test.jsonl` or `train.jsonl`, in file order.

    Raises:
        DataError: the file is not there or has wrong lines; all of them are named.
    """
    path = folder / f"{part}.jsonl"
    rows = read_json_lines(path, ("question", "answer"), _REMEDY)
    raise_all(
        DataError(f"row {number} has no result after {_MARK}", place=str(path))
        for number, row in enumerate(rows, start=1)
        if not row["answer"].partition(_MARK)[2].strip()
    )
    return [Problem(row["question"], row["answer"], row["answer"].split(_MARK)[1].strip()) for row in rows]
