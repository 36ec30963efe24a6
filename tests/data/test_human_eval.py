"""HumanEval's file, plain and compressed, whole and broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from peft_eval.data.human_eval import Problem, read_problems
from peft_eval.errors import DataError, ManyErrors

ROW = {
    "task_id": "HumanEval/0",
    "prompt": "def add(a, b):\n",
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}
PROBLEM = Problem(*(ROW[key] for key in ("task_id", "prompt", "entry_point", "canonical_solution", "test")))


def write(folder: Path, *rows: object) -> Path:
    (folder / "HumanEval.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return folder


def test_plain_and_compressed_files_are_the_same(tmp_path: Path):
    write(tmp_path, ROW)
    assert read_problems(tmp_path) == [PROBLEM]
    content = (tmp_path / "HumanEval.jsonl").read_bytes()
    (tmp_path / "HumanEval.jsonl").unlink()
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(gzip.compress(content))
    assert read_problems(tmp_path) == [PROBLEM]


def test_the_program_is_prompt_completion_tests_and_the_call():
    assert PROBLEM.program("    return 3") == (
        "def add(a, b):\n    return 3\ndef check(candidate):\n    assert candidate(1, 2) == 3\n\ncheck(add)"
    )


def test_the_real_file(shared_data: Path):
    problems = read_problems(shared_data / "human_eval")
    assert [problem.id for problem in problems] == [f"HumanEval/{number}" for number in range(164)]


def test_wrong_rows_are_named_together(tmp_path: Path):
    write(tmp_path, ROW, {"task_id": "HumanEval/1", "prompt": 3}, ["x"])
    with pytest.raises(ManyErrors) as caught:
        read_problems(tmp_path)
    assert "HumanEval.jsonl:2: no text in prompt and entry_point and canonical_solution and test" in str(caught.value)
    assert "HumanEval.jsonl:3: not a JSON object" in str(caught.value)


def test_doubles_and_foreign_functions(tmp_path: Path):
    write(tmp_path, ROW, ROW, ROW | {"task_id": "HumanEval/1", "entry_point": "sub"})
    with pytest.raises(ManyErrors, match=r"HumanEval/0 comes twice\n.*HumanEval/1 has no function 'sub'"):
        read_problems(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"{}" * 99)[:-9], gzip.compress(b"\xff")])
def test_a_damaged_file(tmp_path: Path, content: bytes):
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"HumanEval\.jsonl\.gz: (the file cannot be read|the file is empty)"):
        read_problems(tmp_path)


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(DataError, match="peft-eval data get human_eval"):
        read_problems(tmp_path)
