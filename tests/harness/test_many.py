"""Many checkpoints in one go: what is named, in which order, what becomes of those that fail, and what is shared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest

from peft_eval.errors import ConfigError, ProbeError
from peft_eval.harness import many
from peft_eval.harness.checkpoint_list import expand, plan
from peft_eval.harness.many import Order, evaluate_many, only_run_in
from peft_eval.harness.score_table import score_columns, score_text
from peft_eval.harness.session import current_session
from tests.adapters import write_adapter
from tests.tiny import tiny_llama

LORA = dict(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, two adapters of it, one of another base, full weights, and a folder that is no checkpoint."""
    folder = tmp_path_factory.mktemp("runs")
    tiny_llama(folder / "base")
    tiny_llama(folder / "wide", hidden=128, heads=2)
    write_adapter(folder / "base", folder / "lora-1", peft.LoraConfig(**LORA), scale=0.2)
    write_adapter(folder / "wide", folder / "lora-2", peft.LoraConfig(**LORA), scale=0.2)
    write_adapter(folder / "base", folder / "lora-3", peft.LoraConfig(**LORA), scale=0.2, seed=3)
    tiny_llama(folder / "full", seed=5)
    (folder / "lora-empty").mkdir()
    return folder


def test_patterns_stand_for_the_checkpoints_that_match(runs: Path) -> None:
    first = str(runs / "lora-3")
    assert expand([first, str(runs / "lora-*")]) == [first, str(runs / "lora-1"), str(runs / "lora-2")]
    assert "zoo:base" in expand(["zoo:b*"])
    with pytest.raises(ConfigError, match="matches no folder"):
        expand([str(runs / "nothing-*")])
    with pytest.raises(ConfigError, match="zoo:base"):
        expand(["zoo:bass*"])


def test_each_base_is_a_row_once_unless_it_is_listed_or_not_wanted(runs: Path) -> None:
    names = [str(runs / name) for name in ("lora-1", "lora-3", "lora-2", "gone")]
    rows = plan(names, {}, model="vllm", with_base=True)
    assert [(Path(row.reference).name, row.is_base) for row in rows] == [
        ("base", True), ("lora-1", False), ("lora-3", False), ("wide", True), ("lora-2", False), ("gone", False),
    ]  # fmt: skip
    assert "there is no such folder" in str(rows[-1].error)
    assert len(plan(names, {}, model="vllm", with_base=False)) == 4
    listed = plan([str(runs / "base"), *names[:2]], {}, model="vllm", with_base=True)
    assert [row.is_base for row in listed] == [False] * 3


Runner = Callable[[Any], None]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[Any]]]:
    """Puts a stand-in in lm-eval's place: it raises what it is told to, or writes results."""
    told: dict[str, list[Any]] = {}
    asked: list[Any] = []

    def run(arguments: list[str]) -> None:
        values = dict(zip(arguments[1::2], arguments[2::2], strict=False))
        name = values["--model_args"].split(",")[0].partition("=")[2]
        asked.append(Path(name).name)
        for error in told.get(Path(name).name, [])[:1]:
            del told[Path(name).name][0]
            raise error
        shared = current_session()
        assert shared is not None
        folder = Path(values["--output_path"]) / Path(name).name
        folder.mkdir(parents=True, exist_ok=True)
        block = {"results": {"words": {"alias": "words", "acc,none": 0.5}}, "config": {"peft_eval": dict(shared.notes)}}
        (folder / f"results_{len(asked)}.json").write_text(json.dumps(block))

    monkeypatch.setattr(many, "run_quietly", run)
    told["asked"] = asked
    yield told


def order(runs: Path, output: Path, *names: str, **more: Any) -> Order:
    return Order([str(runs / name) for name in names], tasks="words", output=output, **more)


class EngineDeadError(Exception):
    """Named as vLLM's own."""


def test_those_that_can_share_an_engine_come_after_each_other(runs: Path, tmp_path: Path, running: Any) -> None:
    found = evaluate_many(order(runs, tmp_path, "lora-1", "lora-2", "full", "lora-3"), say=lambda line: None)
    assert running["asked"] == ["base", "lora-1", "full", "lora-3", "wide", "lora-2"]
    assert [Path(outcome.row.reference).name for outcome in found] == [
        "base", "lora-1", "wide", "lora-2", "full", "lora-3",
    ]  # fmt: skip


def test_a_row_fails_by_itself(runs: Path, tmp_path: Path, running: Any) -> None:
    running["lora-1"] = [ProbeError("the adapter changes nothing")]
    running["lora-3"] = [RuntimeError("of some library")]
    said: list[str] = []
    found = evaluate_many(order(runs, tmp_path, "lora-1", "gone", "lora-3"), say=said.append)
    errors = {Path(outcome.row.reference).name: outcome.error for outcome in found}
    assert errors["base"] is None
    assert errors["lora-1"] == "the adapter changes nothing"
    assert "there is no such folder" in str(errors["gone"])
    assert "RuntimeError: of some library" in str(errors["lora-3"])
    assert "Traceback" in (tmp_path / "errors.log").read_text()
    assert sum("failed: " in line for line in said) == 3


def test_an_engine_that_dies_is_started_again_once_and_named(runs: Path, tmp_path: Path, running: Any) -> None:
    running["lora-1"] = [EngineDeadError("gone")]
    running["lora-3"] = [EngineDeadError("gone"), EngineDeadError("gone again")]
    found = evaluate_many(order(runs, tmp_path, "lora-1", "lora-3", with_base=False), say=lambda line: None)
    assert running["asked"] == ["lora-1", "lora-1", "lora-3", "lora-3"]
    assert found[0].error is None
    assert "the engine died (EngineDeadError: gone)" in found[0].notes[0]
    assert found[0].results is not None
    assert found[0].results["config"]["peft_eval"]["engine_restarts"] == found[0].notes
    assert "gone again" in str(found[1].error)


def test_what_fails_every_row_alike_ends_the_run(runs: Path, tmp_path: Path, running: Any) -> None:
    for name in ("base", "lora-1", "lora-3"):
        running[name] = [ConfigError("unknown task 'word'", remedy="did you mean words?")]
    with pytest.raises(ConfigError, match="did you mean words"):
        evaluate_many(order(runs, tmp_path, "lora-1", "lora-3"), say=lambda line: None)


def test_a_second_run_into_the_folder_is_refused(tmp_path: Path) -> None:
    with (
        only_run_in(tmp_path / "out"),
        pytest.raises(ConfigError, match="another run writes"),
        only_run_in(tmp_path / "out"),
    ):
        pass
    with only_run_in(tmp_path / "out"):
        pass


def test_the_table_shows_what_was_asked_for() -> None:
    results = {
        "results": {
            "a": {"alias": "a", "acc,none": 0.25, "acc_stderr,none": 0.01, "sample_len": 4},
            "b": {"acc,none": 1.0, "acc_stderr,none": "N/A"},
            "g": {"acc,none": 0.5},
        },
        "groups": {"g": {"acc,none": 0.625, "acc_stderr,none": 0.125}},
    }
    assert score_columns([results], ["g"]) == [("g", "acc,none")]
    assert score_columns([results, {}], ["b", "a"]) == [("b", "acc,none"), ("a", "acc,none")]
    assert score_columns([results], ["unknown"]) == [("g", "acc,none")]
    assert score_text(results, ("g", "acc,none")) == "0.625 ± 0.12"
    assert score_text(results, ("b", "acc,none")) == "1"
    assert score_text(results, ("c", "acc,none")) == ""
