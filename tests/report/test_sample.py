"""Samples as people read them, from the shapes in which lm-eval writes them."""

import json
from pathlib import Path

import pytest

from peft_eval.errors import DataError
from peft_eval.report.sample import read_samples


def read(tmp_path: Path, *lines: dict) -> list:
    file = tmp_path / "samples.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return list(read_samples(file).values())


GENERATED = {
    "target": "['4', 'four']",
    "arguments": {"gen_args_0": {"arg_0": "2 + 2 =", "arg_1": {"until": ["\n"]}}},
    "resps": [["It is 4."]],
    "filtered_resps": ["It is 4."],
    "filter": "none",
    "metrics": ["exact_match"],
    "exact_match": 0.0,
    "doc_hash": "a",
}


def test_a_generated_answer(tmp_path):
    (one,) = read(tmp_path, GENERATED)
    assert (one.prompt, one.references, one.answer, one.filtered) == ("2 + 2 =", ["4", "four"], "It is 4.", "")
    assert one.scores == {"exact_match": 0.0}


def test_filters_of_one_question_are_one_sample(tmp_path):
    strict = {**GENERATED, "filter": "strict-match", "filtered_resps": ["[invalid]"]}
    flexible = {**GENERATED, "filter": "flexible", "filtered_resps": ["4"], "exact_match": 1.0}
    (one,) = read(tmp_path, strict, flexible)
    assert one.filtered == "strict-match: [invalid]\nflexible: 4"
    assert one.scores == {"exact_match,strict-match": 0.0, "exact_match,flexible": 1.0}


def test_equal_questions_are_told_apart(tmp_path):
    first, second = read(tmp_path, GENERATED, {**GENERATED, "resps": [["5"]], "filtered_resps": ["5"]})
    assert (first.answer, second.answer) == ("It is 4.", "5")


def test_several_drawn_answers(tmp_path):
    drawn = {**GENERATED, "resps": [["one", "two"]], "filtered_resps": [["one", "two"]], "target": "check(f)"}
    (one,) = read(tmp_path, drawn)
    assert (one.answer, one.filtered, one.references) == ("[1] one\n[2] two", "", ["check(f)"])


def test_multiple_choice(tmp_path):
    words = enumerate([" no", " yes"])
    choices = {f"gen_args_{index}": {"arg_0": "Is ice cold?", "arg_1": word} for index, word in words}
    line = {**GENERATED, "arguments": choices, "target": "1", "resps": [[["-3.21", "False"]], [["-0.5", "True"]]]}
    (one,) = read(tmp_path, {**line, "filtered_resps": [["-3.21", "False"], ["-0.5", "True"]]})
    assert one.answer == "  -3.21 no\n→ -0.50 yes"
    assert (one.prompt, one.references) == ("Is ice cold?", ["yes"])


def test_a_reference_that_looks_like_a_list_but_is_none(tmp_path):
    (one,) = read(tmp_path, {**GENERATED, "target": "[1, 2"})
    assert one.references == ["[1, 2"]


def test_a_broken_line_is_told_with_its_place(tmp_path):
    file = tmp_path / "samples.jsonl"
    file.write_text('{"doc": \n')
    with pytest.raises(DataError, match=r"samples\.jsonl:1: a line is cut or no JSON"):
        read_samples(file)
