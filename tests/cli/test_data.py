"""`peft-eval data show`."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from peft_eval import plugins
from peft_eval.cli.data import command
from peft_eval.data.superni.source import SuperNISource
from peft_eval.errors import ConfigError, PeftEvalError


@pytest.fixture(autouse=True)
def only_superni(monkeypatch) -> None:
    monkeypatch.setattr(plugins, "datasets", lambda: {"superni": SuperNISource()})


def test_what_a_run_would_see(tiny_superni) -> None:
    tiny_superni.add("task1_a", "Word Games", instances=3)
    tiny_superni.add("task2_b", "Word Games", instances=2)
    tiny_superni.add("task3_c", "Poems", instances=1)
    tiny_superni.split("train", ["task1_a", "task2_b", "task3_c", "task4_d"])
    done = CliRunner().invoke(command, ["show", f"superni:{tiny_superni.folder}", "--examples", "2"])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert ["Word", "Games", "2", "5"] in lines and ["Poems", "1", "1"] in lines
    assert "6 examples of 3 tasks" in done.output
    assert "note: 1 of the 4 training tasks have no file" in done.output
    assert done.output.count("Now complete the following example -") == 2


def test_errors_come_through(tiny_superni) -> None:
    done = CliRunner().invoke(command, ["show", "super"])
    assert isinstance(done.exception, ConfigError) and "did you mean superni" in str(done.exception)
    tiny_superni.add("task1_a").write_text("{")
    tiny_superni.split("train", ["task1_a"])
    done = CliRunner().invoke(command, ["show", f"superni:{tiny_superni.folder}"])
    assert isinstance(done.exception, PeftEvalError) and "task1_a.json: not valid JSON" in str(done.exception)
