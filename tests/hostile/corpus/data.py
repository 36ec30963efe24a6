"""Conversations, Super-NaturalInstructions and the suites' own files."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from tests.hostile.corpus.cases import (
    DEEP,
    Make,
    case,
    large_bomb,
    sparse,
)

ROW = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
_MESSAGES: dict[str, tuple[str, bytes, str]] = {
    "deep": ("x.jsonl", b'{"messages": ' + DEEP.encode(), "x.jsonl:1: not valid JSON"),
    "deep_list": ("x.json", DEEP.encode(), "x.json: cannot be read"),
    "crowd": ("x.json", b"[" + b"[]," * 4_000_000 + b"[]]", "x.json: .*values"),
    "utf16": ("x.jsonl", ROW.decode().encode("utf-16"), "x.jsonl: cannot be read"),
    "role": ("x.jsonl", ROW.replace(b"user", b"\\u001b[2Jroot"), r"role is '\\x1b"),
    "role_list": ("x.jsonl", ROW.replace(b'"user"', b"[[]]"), "role is"),
    "content_number": ("x.jsonl", ROW.replace(b'"a"', b"1e999"), "content is missing"),
    "huge_number": ("x.jsonl", b'{"messages": ' + b"9" * 10_000 + b"}", "x.jsonl:1: not valid JSON"),
    "pickle": ("x.parquet", pickle.dumps(["x"]), "x.parquet: cannot be read"),
    "pickle_suffix": ("x.pkl", pickle.dumps(["x"]), "no format of conversations|no such file"),
    "gzip_cut": ("x.jsonl.gz", gzip.compress(ROW * 1000)[:-20], "x.jsonl.gz: cannot be read"),
    "gzip_none": ("x.jsonl.gz", ROW, "x.jsonl.gz: cannot be read"),
}
for _name, (_file, _bytes, _words) in _MESSAGES.items():

    def _data(folder: Path, name: str = _file, content: bytes = _bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    case("messages", _words, f"messages_{_name}")(_data)


@case("messages", "x.jsonl.gz.*unpacks to more than|x.jsonl.gz.*line 1")
def messages_bomb(folder: Path) -> Path:
    (folder / "x.jsonl.gz").write_bytes(large_bomb())
    return folder / "x.jsonl.gz"


@case("messages", "x.json.gz.*(unpacks to|has) more than")
def messages_bomb_of_json(folder: Path) -> Path:
    (folder / "x.json.gz").write_bytes(large_bomb())
    return folder / "x.json.gz"


@case("messages", "x.jsonl.*line 1 has more than")
def messages_line_of_a_gigabyte(folder: Path) -> Path:
    sparse(folder / "x.jsonl", 1 << 30, b'{"messages": "')
    return folder / "x.jsonl"


@case("messages", "x.json.*1,073,741,824 bytes")
def messages_file_of_a_gigabyte(folder: Path) -> Path:
    sparse(folder / "x.json", 1 << 30, b'[{"messages": "')
    return folder / "x.json"


@case("messages", "x.parquet.*(unpack|rows)")
def messages_parquet_bomb(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"messages": pyarrow.array(["x"]).take(pyarrow.array(numpy.zeros(3_000_000, "int32")))})
    parquet.write_table(table, folder / "x.parquet", compression="gzip")
    return folder / "x.parquet"


@case("messages", "no such file")
def messages_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.jsonl")
    return folder / "x.jsonl"


def superni(folder: Path, content: Any, names: bytes = b"task1_x\n") -> None:
    (folder / "tasks").mkdir()
    (folder / "splits" / "default").mkdir(parents=True)
    (folder / "splits" / "default" / "train_tasks.txt").write_bytes(names)
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "tasks" / "task1_x.json").write_bytes(text)


TASK: dict[str, Any] = {
    "Categories": ["a"], "Definition": ["b"], "Positive Examples": [], "Negative Examples": [],
    "Instances": [{"id": "1", "input": "x", "output": ["y"]}],
}  # fmt: skip
_WRONG: dict[str, dict[str, Any]] = {
    "categories": {"Categories": {"a": 1}}, "definition": {"Definition": 7}, "positive": {"Positive Examples": "x"},
    "negative": {"Negative Examples": [1]}, "instances": {"Instances": {}}, "input": {"Instances": [{"input": []}]},
    "output": {"Instances": [{"input": "x", "output": [1]}]}, "empty": {"Instances": []},
}  # fmt: skip
for _name, _fields in _WRONG.items():
    case("superni", f"task1_x.json: field '{next(iter(_fields))}", f"superni_{_name}")(
        lambda folder, fields=_fields: superni(folder, {**TASK, **fields})
    )
for _name, _bytes in {
    "deep": b'{"Categories": ' + DEEP.encode(), "crowd": b'{"Instances": [' + b"[]," * 4_000_000 + b"[]]}",
    "list": b"[]", "utf16": json.dumps(TASK).encode("utf-16"), "huge_number": b'{"Categories": ' + b"9" * 9999 + b"}",
}.items():  # fmt: skip
    case("superni", "task1_x.json", f"superni_{_name}")(lambda folder, content=_bytes: superni(folder, content))
for _number, _line in enumerate((b"../../secret", b"/etc/passwd", b"a\0b", b"\x1b[2J", b"..", b"a/b")):
    case("superni", "train_tasks.txt: .* no name of a task", f"superni_split_{_number}")(
        lambda folder, line=_line: superni(folder, TASK, line + b"\n")
    )


@case("superni", "task1_x.json.*1,073,741,824 bytes")
def superni_task_of_a_gigabyte(folder: Path) -> None:
    superni(folder, TASK)
    sparse(folder / "tasks" / "task1_x.json", 1 << 30, b'{"Categories": "')


@case("superni", "train_tasks.txt.*bytes")
def superni_split_of_a_gigabyte(folder: Path) -> None:
    superni(folder, TASK)
    sparse(folder / "splits" / "default" / "train_tasks.txt", 1 << 30, b"task1_x\n")


@case("superni", "train_tasks.txt.*pipe")
def superni_split_is_a_pipe(folder: Path) -> None:
    superni(folder, TASK)
    (folder / "splits" / "default" / "train_tasks.txt").unlink()
    os.mkfifo(folder / "splits" / "default" / "train_tasks.txt")


def suite(reader: str, file: str, content: bytes | int | Callable[[], bytes], *arguments: Any) -> Make:
    """A file of a suite's data; a number makes it as large, and of nothing."""

    def make(folder: Path) -> tuple[Any, ...]:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, int):
            sparse(path, content, b'{"question": "')
        else:
            path.write_bytes(content() if callable(content) else content)
        return (reader, folder, *arguments)

    return make


_CELL = b'"' + b"x" * 200_000 + b'",a,b,c,d,A\n'
_TYDI = {"data": [{"paragraphs": [{"context": "x", "qas": [{"id": ["x"], "question": 1, "answers": []}]}]}]}
_SUITES: dict[str, tuple[str, Make]] = {
    "mmlu_cell": ("virology_test.csv:1", suite("mmlu", "test/virology_test.csv", _CELL, "test", "virology")),
    "mmlu_gigabyte": ("virology_test", suite("mmlu", "test/virology_test.csv", 1 << 30, "test", "virology")),
    "gsm8k_line": ("test.jsonl.*line 1 has more than", suite("gsm8k", "test.jsonl", 1 << 30)),
    "gsm8k_deep": ("test.jsonl:1", suite("gsm8k", "test.jsonl", DEEP.encode())),
    "human_eval_bomb": ("unpacks to more than|line 1", suite("human_eval", "HumanEval.jsonl.gz", large_bomb)),
    "bbh_deep": ("navigate.json", suite("bbh", "bbh/navigate.json", DEEP.encode(), "navigate")),
    "bbh_crowd": ("values", suite("bbh", "bbh/navigate.json", b"[" + b"{}," * 4_000_000 + b"{}]", "navigate")),
    "tydiqa_types": ("dev.json", suite("tydiqa", "tydiqa-goldp-v1.1-dev.json", json.dumps(_TYDI).encode(), "dev")),
    "tydiqa_list": ("dev.json", suite("tydiqa", "tydiqa-goldp-v1.1-dev.json", b"[[]]", "dev")),
    "alpaca_deep": ("alpaca_eval.json", suite("alpaca_eval", "alpaca_eval.json", DEEP.encode())),
    "alpaca_gigabyte": ("alpaca_eval.json.*bytes", suite("alpaca_eval", "alpaca_eval.json", 1 << 30)),
    "truthfulqa_cell": ("TruthfulQA.csv", suite("truthfulqa", "TruthfulQA.csv", b"Category," + _CELL)),
    "truthfulqa_gigabyte": ("TruthfulQA.csv.*bytes", suite("truthfulqa", "TruthfulQA.csv", 1 << 30)),
}
for _name, (_words, _make) in _SUITES.items():
    case("suite", _words, f"suite_{_name}")(_make)
