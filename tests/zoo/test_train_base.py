"""The script that makes the embedded base: what its corpus never shows, and that a killed run loses nothing."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from peft_eval.data.mini.corpus import as_superni, train_tasks, unseen_tasks

_SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(_SCRIPTS), *sys.path])
        yield importlib.import_module("train_base"), importlib.import_module("base_corpus")


@pytest.fixture(scope="module")
def documents(scripts: tuple[ModuleType, ModuleType]) -> list[str]:
    return list(itertools.islice(scripts[1].Corpus(seed=1).documents(), 4000))


def test_a_seed_gives_the_same_documents(scripts, documents: list[str]):
    again = scripts[1].Corpus(seed=1).documents()
    assert documents[:50] == list(itertools.islice(again, 50))
    assert documents[:50] != list(itertools.islice(scripts[1].Corpus(seed=2).documents(), 50))


def test_the_instruction_format_is_never_shown(documents: list[str]):
    for phrase in ("Definition", "Positive Example", "Now complete", "Input:", "Output:"):
        assert not any(phrase in document for document in documents), phrase


def test_no_instance_of_the_default_corpus_is_shown(scripts):
    corpus = scripts[1].Corpus(seed=3)
    for task in train_tasks() + unseen_tasks():
        made = as_superni(task)
        known = {instance.input for instance in made.instances} | {example.input for example in made.positive}
        shown = {corpus.pair(task)[0] for _ in range(300)}
        assert not shown & known, task.name


def test_the_rate_rises_stays_and_falls_to_zero(scripts):
    shares = [scripts[0].rate_share(step, 1000) for step in range(1000)]
    assert shares[0] == pytest.approx(1 / 200)
    assert shares[199:701] == [1.0] * 502
    assert 0 < shares[999] < 0.01


def _train(train_base: ModuleType, folder: Path) -> dict[str, Any]:
    options = ["--steps", 8, "--tokens-per-step", 1024, "--vocabulary", 320, "--layers", 4, "--width", 192]
    places = ["--output", folder / "base", "--work", folder / "work", "--threads", 1]
    outcome = CliRunner().invoke(train_base.main, [*map(str, options), *map(str, places)])
    if outcome.exception:
        raise outcome.exception
    return json.loads((folder / "base" / "training.json").read_text(encoding="utf-8"))


def test_a_killed_run_continues_to_the_same_weights(scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    train_base = scripts[0]
    monkeypatch.setattr(train_base, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(train_base, "TOKENIZER_DOCUMENTS", 200)
    whole = _train(train_base, tmp_path / "whole")

    one_step, calls = train_base.Run.one_step, itertools.count()

    def killed(run: Any, ids: Any) -> float:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return one_step(run, ids)

    with monkeypatch.context() as patch:
        patch.setattr(train_base.Run, "one_step", killed)
        with pytest.raises(SystemExit):
            _train(train_base, tmp_path / "killed")
    assert not (tmp_path / "killed" / "base").exists()
    resumed = _train(train_base, tmp_path / "killed")
    assert resumed["sha256"] == whole["sha256"]
    assert resumed["steps"] == 8
    tokens = [np.load(tmp_path / run / "work" / "tokens-8.npy") for run in ("whole", "killed")]
    assert (tokens[0] == tokens[1]).all() and len(tokens[0]) == 8 * 1024
