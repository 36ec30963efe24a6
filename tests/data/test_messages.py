"""Conversations are read as they are in the wild, every broken row is named, and draws lie within each other."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from peft_eval.data.messages.source import MessagesSource
from peft_eval.data.source import Message, Selection
from peft_eval.errors import ConfigError, DataError, ManyErrors


def row(number: int, dataset: str = "lima", **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"ask {number}"}, {"role": "assistant", "content": f" say {number} "}]
    return {"dataset": dataset, "id": f"{dataset}_{number}", "messages": turns, **more}


ROWS = [row(0), row(1), row(2, "oasst"), row(3, "oasst"), row(4, "oasst")]


@pytest.fixture
def written(tmp_path: Path):
    def write(rows: list[Any], name: str = "train.jsonl") -> str:
        path = tmp_path / name
        lines = "".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in rows)
        if name.endswith(".parquet"):
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        elif name.endswith(".json"):
            path.write_text(json.dumps(rows))
        else:
            path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
        return str(path)

    return write


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.json", "train.parquet"])
def test_every_format_gives_the_same_examples(written, name: str):
    data = MessagesSource().load(written(ROWS, name), Selection())
    assert data.chat
    assert [example.instance_id for example in data.examples] == [item["id"] for item in ROWS]
    assert data.examples[2].task == data.examples[2].category == "oasst"
    assert data.examples[0].messages == (Message("user", "ask 0"), Message("assistant", " say 0 "))
    assert data.content_sha256 == MessagesSource().load(written(ROWS, "same.jsonl"), Selection()).content_sha256


def test_rows_without_a_name_or_repeated_stay_apart(written):
    rows = [{"messages": row(0)["messages"]}, row(1), row(1)]
    ids = [
        (example.task, example.instance_id) for example in MessagesSource().load(written(rows), Selection()).examples
    ]
    assert ids == [("train", "train#0"), ("lima", "lima_1"), ("lima", "lima_1 (2)")]


def test_all_broken_rows_are_named_by_file_and_line(written):
    path = written(
        [
            ROWS[0],
            "{not json",
            {"text": "no messages"},
            {"messages": []},
            row(1, messages=[{"role": "human", "content": "x"}]),
            row(2, messages=[{"role": "user", "content": None}]),
            row(3, messages=[{"role": "user", "content": "nobody answers"}]),
            "[1]",
        ]
    )
    with pytest.raises(ManyErrors) as caught:
        MessagesSource().load(path, Selection())
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{path}:{number}" for number in range(2, 9)]
    for line, said in zip(
        lines,
        ["not valid JSON", "is missing", "no list of turns", "'human'", "content is missing", "assistant", "an object"],
        strict=True,
    ):
        assert said in line


def test_many_broken_rows_are_counted(written):
    with pytest.raises(ManyErrors, match="1,950 more of this kind"):
        MessagesSource().load(written(["{}"] * 2_000), Selection())


@pytest.mark.parametrize(
    ("location", "error", "said"),
    [
        (None, ConfigError, "no file is named"),
        ("/nowhere/train.jsonl", DataError, "there is no such file"),
        ("train.jsonl", DataError, "there is no such file"),
        ("no-such-organisation/no-such-data", DataError, "neither a file here nor a data set"),
    ],
)
def test_what_is_not_there_is_refused(location, error, said, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(error, match=said):
        MessagesSource().load(location, Selection())


def test_other_formats_and_broken_files_are_refused(tmp_path: Path):
    for name, content, said in [
        ("train.csv", b"a,b", "no format of conversations"),
        ("train.parquet", b"PAR1 not really", "cannot be read"),
        ("train.jsonl", b"\xff\xfe", "cannot be read"),
        ("train.jsonl.gz", b"plain", "cannot be read"),
        ("train.json", b'{"messages": []}', "not a JSON list"),
        ("empty.jsonl", b"", "there is no row"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=said):
            MessagesSource().load(str(tmp_path / name), Selection())


def test_draws_lie_within_each_other_and_leave_the_rest_out(written):
    path = written([row(number, "lima" if number % 3 else "oasst") for number in range(60)])
    chosen = {}
    for count in (5, 9):
        selection = Selection(instances_per_task=count, seed=7)
        data = MessagesSource().load(path, selection)
        chosen[count] = [example.instance_id for example in data.examples]
        assert Counter(example.task for example in data.examples) == {"lima": count, "oasst": count}
        trained: dict[str, list[str]] = {}
        for example in data.examples:
            trained.setdefault(example.task, []).append(example.instance_id)
        held_out = {item.example.instance_id for item in MessagesSource().held_out(path, selection, trained)}
        assert held_out.isdisjoint(chosen[count])
        assert len(held_out) + len(chosen[count]) == 60
    assert set(chosen[5]) < set(chosen[9])
    assert chosen[9] == sorted(chosen[9], key=lambda name: int(name.split("_")[1]))  # in file order
    one = MessagesSource().load(path, Selection(tasks=1, seed=1)).examples
    assert len({example.task for example in one}) == 1
    with pytest.raises(ConfigError, match="3 tasks asked for"):
        MessagesSource().load(path, Selection(tasks=3))


def test_all_rows_are_taken_unless_told_otherwise(written):
    path = written([row(number) for number in range(150)])
    assert len(MessagesSource().load(path, Selection()).examples) == 150
    assert MessagesSource().held_out(path, Selection(), {"lima": []}) == []
