"""`--data mini`: the same examples as its folder gives through the SuperNI reader, and plain errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from peft_eval.data.mini.folder import write_folder
from peft_eval.data.mini.source import MiniSource
from peft_eval.data.source import Selection
from peft_eval.data.superni.source import SuperNISource
from peft_eval.errors import ConfigError


def test_the_folder_read_by_superni_gives_the_same_examples(tmp_path: Path):
    write_folder(tmp_path, seed=7)
    selection = Selection(tasks=20, instances_per_task=30, encoding="def_pos2", seed=3)
    made, read = MiniSource().load("seed=7", selection), SuperNISource().load(str(tmp_path), selection)
    assert made.examples == read.examples
    assert made.content_sha256 == read.content_sha256
    assert len(made.examples) == 600


def test_the_folder_is_written_from_the_command_line(tmp_path: Path):
    command = [sys.executable, "-m", "peft_eval.data.mini.folder", str(tmp_path / "corpus"), "7"]
    subprocess.run(command, check=True)
    assert len(list((tmp_path / "corpus" / "tasks").glob("*.json"))) == 74


def test_a_smaller_draw_of_tasks_lies_within_a_larger_one():
    small, large = (
        {example.task for example in MiniSource().load(None, Selection(tasks=count, instances_per_task=1)).examples}
        for count in (8, 32)
    )
    assert len(small) == 8 and small < large


def test_more_than_100_instances_continue_after_the_held_out_ones():
    examples = MiniSource().load(None, Selection(tasks=3, instances_per_task=120)).examples
    hundred = MiniSource().load(None, Selection(tasks=3, instances_per_task=100)).examples
    assert len(examples) == 360
    assert {example.instance_id for example in hundred} < {example.instance_id for example in examples}


def test_a_task_that_runs_out_of_inputs_is_noted():
    data = MiniSource().load(None, Selection(instances_per_task=400))
    assert any("fewer than 400" in note for note in data.notes)


@pytest.mark.parametrize("location", ["7", "seed=7"])
def test_a_seed_names_the_corpus(location: str):
    data = MiniSource().load(location, Selection(tasks=1, instances_per_task=1))
    assert data.source == "mini:seed=7"


@pytest.mark.parametrize(
    ("location", "selection", "words"),
    [
        ("some/folder", Selection(), "not a seed"),
        (None, Selection(tasks=99), "has 52 training tasks"),
        (None, Selection(encoding="def_pos3"), "def_pos2"),
        (None, Selection(instances_per_task=0), "not a positive number"),
    ],
)
def test_wrong_wishes_are_refused_in_a_line(location: str | None, selection: Selection, words: str):
    with pytest.raises(ConfigError, match=words):
        MiniSource().load(location, selection)
