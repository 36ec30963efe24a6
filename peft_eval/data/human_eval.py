"""Reads HumanEval (openai/human-eval, Chen et al. 2021, arXiv 2107.03374): functions to complete, with their tests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from peft_eval.data.text_files import read_json_lines
from peft_eval.errors import DataError, raise_all

FILES = ("HumanEval.jsonl.gz", "HumanEval.jsonl")
_REMEDY = "fetch the data with `peft-eval data get human_eval`"
_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


@dataclass(frozen=True, slots=True)
class Problem:
    """A function to complete.

    Attributes:
        id: such as `HumanEval/0`.
        prompt: imports, signature and docstring; ends with a line end.
        entry_point: the function's name.
        solution: a body that passes.
        test: source that defines `check(candidate)`.
    """

    id: str
    prompt: str
    entry_point: str
    solution: str
    test: str

    def program(self, completion: str) -> str:
        """Returns the program that ends without an exception if a completion passes the tests."""
        return f"{self.prompt}{completion}\n{self.test}\ncheck({self.entry_point})"


def read_problems(folder: Path) -> list[Problem]:
    """Reads the problems, in file order.

    Raises:
        DataError: no file, wrong lines (all are named), or an id that comes twice.
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), folder / FILES[0])
    rows = read_json_lines(path, _FIELDS, _REMEDY)
    found = [Problem(*(row[field] for field in _FIELDS)) for row in rows]
    ids = [problem.id for problem in found]
    raise_all(
        [
            *(
                DataError(f"{name} comes twice", place=str(path))
                for name in sorted({i for i in ids if ids.count(i) > 1})
            ),
            *(
                DataError(f"{one.id} has no function {one.entry_point!r} in its prompt", place=str(path))
                for one in found
                if not re.search(rf"\bdef {re.escape(one.entry_point)}\b", one.prompt)
            ),
        ]
    )
    return found
