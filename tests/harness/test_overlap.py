"""`peft-eval overlap` on lm-eval's own tasks: the questions that were put into the training data are found, by hash."""

import json

import pytest
from click.testing import CliRunner
from lm_eval.tasks import TaskManager

from peft_eval.checkpoint.manifest import Manifest
from peft_eval.cli.main import cli
from peft_eval.data.source import Example
from peft_eval.errors import ConfigError
from peft_eval.harness.overlap import document_hash, overlap_of
from tests.tiny import tiny_llama

TASK = "mini_unseen_comparison"


def test_questions_in_the_training_data_are_found():
    task = TaskManager().load([TASK])["tasks"][TASK]
    taken = [document for number, document in enumerate(task.eval_docs) if number % 10 == 0]
    examples = [Example.pair(one["task"], "c", one["id"], one["prompt"].lower(), "?") for one in taken]
    found = overlap_of([*examples, Example.pair("t", "c", "x", "Nothing like it", "?")], [TASK])[TASK]
    assert {document_hash(one) for one in taken} <= set(found.overlapping)
    assert len(found.overlapping) < 50 and found.questions == 150


def test_the_mini_corpus_shares_no_question_with_its_suites(tmp_path):
    command = ["overlap", "--data", "mini", "--suites", "mini_unseen", "--output", str(tmp_path / "o.json"), "--json"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads((tmp_path / "o.json").read_text())
    assert sum(one["questions"] for one in found.values()) == 550
    assert not any(one["overlapping"] for one in found.values())


def test_the_manifest_holds_what_train_found(tmp_path):
    base = tiny_llama(tmp_path / "base", bos=True)
    command = ["train", "--base", str(base), "--data", "mini", "--tasks", "2", "--instances-per-task", "4"]
    command += ["--max-steps", "1", "--batch-size", "4", "--overlap", TASK, "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    assert "0 of 150 questions overlap with the training data" in result.output
    assert Manifest.read(tmp_path / "out").overlap[TASK].questions == 150


def test_a_suite_that_does_not_exist():
    with pytest.raises(ConfigError, match="no such task: nonsense"):
        overlap_of([], ["nonsense"])
