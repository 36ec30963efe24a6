"""MMLU, GSM8K, BIG-Bench-Hard and TyDiQA as their files are: both forms, and every broken row named."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from peft_eval.data import bbh, gsm8k, tydiqa
from peft_eval.data.mmlu.reader import Question, read_questions
from peft_eval.data.mmlu.subjects import SUBJECTS, all_subjects
from peft_eval.errors import ConfigError, DataError, PeftEvalError
from tests import tulu_files


def mmlu_file(folder: Path, text: str) -> Path:
    path = folder / "test" / "anatomy_test.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("header", [False, True])
def test_mmlu_in_both_forms(tmp_path: Path, header: bool):
    folder = tulu_files.mmlu(tmp_path / "mmlu", header=header)
    assert read_questions(folder, "test", "anatomy")[0] == Question("What is 2 + 2?", ("3", "4", "None", "0.50"), "B")
    assert [one.answer for one in read_questions(folder, "dev", "virology")] == ["B", "A", "C", "D", "B"]


def test_mmlu_keeps_unusual_characters_in_a_field(tmp_path: Path):
    mmlu_file(tmp_path, '"a\x85b\u2028c ""d""\ne",1,2,3,4,A\n')
    assert read_questions(tmp_path, "test", "anatomy")[0].text == 'a\x85b\u2028c "d"\ne'


def test_mmlu_names_every_wrong_row_with_its_line(tmp_path: Path):
    path = mmlu_file(tmp_path, '"two\nlines",1,2,3,4,A\nq,1,2,3,A\nq,1,2,3,4,E\nq,1,2,3,4,1\n')
    with pytest.raises(PeftEvalError) as caught:
        read_questions(tmp_path, "test", "anatomy")
    assert str(caught.value).splitlines() == [
        f"{path}:3: 5 columns, expected were 6: question, four choices, answer",
        f"{path}:4: the answer is 'E', expected was one of A, B, C, D",
        f"{path}:5: the answer is '1', expected was one of A, B, C, D",
    ]


def test_mmlu_with_a_header_wants_indices(tmp_path: Path):
    path = mmlu_file(tmp_path, "question,a,b,c,d,answer\nq,1,2,3,4,A\n")
    with pytest.raises(DataError, match="expected was one of 0, 1, 2, 3") as caught:
        read_questions(tmp_path, "test", "anatomy")
    assert str(caught.value).startswith(f"{path}:2: the answer is 'A'")


def test_mmlu_subjects():
    assert len(all_subjects()) == len(set(all_subjects())) == 57
    assert {category: len(parts) for category, parts in SUBJECTS.items()} == {
        "STEM": 6, "humanities": 3, "social sciences": 5, "other (business, health, misc.)": 3,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="did you mean anatomy"):
        read_questions(Path(), "test", "anatomie")


@pytest.mark.parametrize("part", ["test", "dev"])
def test_mmlu_missing_or_empty(tmp_path: Path, part: str):
    with pytest.raises(DataError, match=r"no such file \(fetch the data with `peft-eval data get mmlu`\)"):
        read_questions(tmp_path, part, "anatomy")
    mmlu_file(tmp_path, "\n")
    if part == "test":
        with pytest.raises(DataError, match="no questions"):
            read_questions(tmp_path, part, "anatomy")


def test_gsm8k(tmp_path: Path):
    folder = tulu_files.gsm8k(tmp_path / "gsm8k")
    assert gsm8k.read_problems(folder)[2].result == "1,002"
    (folder / "test.jsonl").write_text('{"question": "a", "answer": "1 #### 1"}\n{"question": 1}\n{"x\n[]\n')
    with pytest.raises(PeftEvalError) as caught:
        gsm8k.read_problems(folder)
    said = str(caught.value).splitlines()
    assert "test.jsonl:2: no text in question and answer" in said[0]
    assert "test.jsonl:3: not valid JSON" in said[1] and "test.jsonl:4: not a JSON object" in said[2]
    (folder / "test.jsonl").write_text('{"question": "a", "answer": "1"}\n')
    with pytest.raises(DataError, match="row 1 has no result after ####"):
        gsm8k.read_problems(folder)


def test_a_column_that_no_row_has_is_said_once(tmp_path: Path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"problem": "1+1?", "answer": "#### 2"}\n' * 3)
    with pytest.raises(DataError, match=r"no column question, but problem, answer \(fetch the data with"):
        gsm8k.read_problems(tmp_path)


def test_bbh(tmp_path: Path):
    folder = tulu_files.big_bench_hard(tmp_path / "bbh")
    assert bbh.read_examples(folder, "snarks")[1] == bbh.Example("Is 1 odd?", "Yes")
    assert bbh.read_prompt(folder, "snarks").startswith("Say whether it is true.\n\nQ: Is 1 odd?\n")
    (folder / "bbh" / "snarks.json").write_text(json.dumps({"examples": [{"input": "a", "target": "b"}, {"input": 1}]}))
    with pytest.raises(DataError, match=r"examples\[1\]: no text in input and target"):
        bbh.read_examples(folder, "snarks")
    (folder / "bbh" / "snarks.json").write_text(json.dumps({"examples": [{"input": "a", "label": "b"}] * 60}))
    with pytest.raises(DataError, match="no example has target"):
        bbh.read_examples(folder, "snarks")
    (folder / "cot-prompts" / "snarks.txt").write_text("no canary\nbut text\nhere")
    with pytest.raises(DataError, match="its second line is not one of dashes"):
        bbh.read_prompt(folder, "snarks")


def test_tydiqa_is_the_same_in_every_form(tmp_path: Path):
    official = tulu_files.tydiqa_official(tmp_path / "official", train=2, dev=3)
    rows = {part: tulu_files.tydiqa_rows(part, count) for part, count in (("train", 2), ("dev", 3))}
    hub, lines = tmp_path / "hub" / "secondary_task", tmp_path / "lines"
    hub.mkdir(parents=True)
    lines.mkdir()
    for part, name in (("train", "train"), ("dev", "validation")):
        table = pyarrow.Table.from_pylist([{**row, "title": "t"} for row in rows[part]])
        pyarrow.parquet.write_table(table, hub / f"{name}-00000-of-00001.parquet")
        (lines / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows[part]), encoding="utf-8")
        read = tydiqa.read_part(official, part)
        assert [one.id for one in read] == [row["id"] for row in rows[part]]
        assert read == tydiqa.read_part(hub.parent, part) == tydiqa.read_part(hub, part)
        assert read == tydiqa.read_part(lines, part)
    assert read[0] == tydiqa.Question(
        "telugu-dev0-0", "telugu", "The telugu passage 0 of dev says 0.", "What does telugu 0 say?", ("0", "says 0")
    )


def test_tydiqa_that_is_broken(tmp_path: Path):
    with pytest.raises(DataError, match="no file of the dev part"):
        tydiqa.read_part(tmp_path, "dev")
    rows = tulu_files.tydiqa_rows("dev", 1)
    rows[0]["id"] = "thai-1-0"
    rows[1]["answers"] = {"text": []}
    rows[2]["context"] = None
    (tmp_path / "validation.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with pytest.raises(PeftEvalError) as caught:
        tydiqa.read_part(tmp_path, "dev")
    said = str(caught.value).splitlines()
    assert "row 1: the id 'thai-1-0' begins with none of arabic" in said[0]
    assert "row 2: no list of texts" in said[1] and "row 3: no text in context" in said[2]
    for name, content, message in (
        ("tydiqa-goldp-v1.1-dev.json", "[]", "not in the form of the gold passage task"),
        ("tydiqa-goldp-v1.1-dev.json", "{", "not valid JSON"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=message):
            tydiqa.read_part(tmp_path, "dev")


def test_tydiqa_of_another_parquet(tmp_path: Path):
    path = tmp_path / "validation-00000-of-00001.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        tydiqa.read_part(tmp_path, "dev")
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), path)
    with pytest.raises(DataError, match="no column answers and context and question"):
        tydiqa.read_part(tmp_path, "dev")
