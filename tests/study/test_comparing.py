"""`peft-eval compare` on what lm-eval itself wrote of two models that need no weights."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

from peft_eval.cli.main import cli
from peft_eval.errors import DataError
from peft_eval.harness.baselines import CopyDemo, CopyInput
from peft_eval.resources import tasks_folder
from peft_eval.study.comparing import compare_runs
from peft_eval.study.results import read_run

METRIC = "rougeL,none"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Results of copy-input and copy-demo on the mini suite, as lm_eval writes them."""
    folder = tmp_path_factory.mktemp("runs")
    manager = TaskManager(include_path=str(tasks_folder() / "mini"), include_defaults=False)
    for name, model in (("copy-input", CopyInput()), ("copy-demo", CopyDemo())):
        tracker = EvaluationTracker(output_path=str(folder / name))
        found = simple_evaluate(
            model=model, tasks=["mini_unseen"], task_manager=manager, bootstrap_iters=0, evaluation_tracker=tracker
        )
        samples = found.pop("samples")
        found["config"]["model"] = name  # as the command does, where `--model` is a name
        tracker.save_results_aggregated(results=found, samples=samples)
        for task in found["configs"]:
            tracker.save_results_samples(task_name=task, samples=samples[task])
    return {name: folder / name for name in ("copy-input", "copy-demo")}


def compared(*arguments: object):
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


def test_the_means_are_lm_evals(runs):
    first, second = (read_run(folder) for folder in runs.values())
    rows, notes = compare_runs([first], [second], by_task=True)
    assert not notes
    assert {row.name for row in rows} == {"mini_unseen", *first.files}
    for row in rows:
        assert row.difference.first == pytest.approx(first.reported(row.name, row.metric))
        assert row.difference.second == pytest.approx(second.reported(row.name, row.metric))
        assert row.corrected >= row.difference.p_value
    assert (first.name, second.name) == ("copy-input", "copy-demo")


def test_a_run_against_itself_is_not_decisive(runs):
    result = compared(runs["copy-demo"], runs["copy-demo"], "--json")
    assert result.exit_code == 0
    assert {(row["verdict"], row["difference"], row["p_value"]) for row in json.loads(result.stdout)["rows"]} == {
        ("not decisive", 0, 1)
    }


def test_the_better_one_is_named_whichever_comes_first(runs):
    for order, verdict in (("copy-input", "copy-demo"), "B better"), (("copy-demo", "copy-input"), "A better"):
        (row,) = compare_runs(*([read_run(runs[one])] for one in order), metrics=["exact_match"]).rows
        assert row.difference.test == "mcnemar"
        assert row.verdict == verdict
        assert row.difference.questions == 550


def test_questions_are_paired_by_content_not_by_order(runs, tmp_path):
    shutil.copytree(runs["copy-demo"], tmp_path / "shuffled")
    for file in (tmp_path / "shuffled").rglob("samples_*.jsonl"):
        file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    plain, shuffled = (
        compare_runs([read_run(runs["copy-input"])], [read_run(one)])
        for one in (runs["copy-demo"], tmp_path / "shuffled")
    )
    assert plain == shuffled


def test_questions_that_one_was_not_asked_are_left_out_and_counted(runs, tmp_path):
    shutil.copytree(runs["copy-demo"], tmp_path / "short")
    file = next((tmp_path / "short").rglob("samples_*.jsonl"))
    file.write_text("".join(file.read_text().splitlines(keepends=True)[5:]))
    rows, notes = compare_runs([read_run(runs["copy-input"])], [read_run(tmp_path / "short")], metrics=["rougeL"])
    assert rows[0].difference.questions == 545
    assert notes == [f"mini_unseen, {METRIC}: 5 questions are not in all runs and are left out"]
    file.unlink()
    _, notes = compare_runs([read_run(runs["copy-input"])], [read_run(tmp_path / "short")])
    assert notes[0].startswith("not in all runs, left out: mini_unseen_")


def test_several_seeds_a_side(runs):
    seeds = f"{runs['copy-demo']},{runs['copy-demo']}"
    result = compared(seeds, f"{runs['copy-input']},{runs['copy-input']}", "--metric", "rougeL")
    assert result.exit_code == 0
    assert "Welch" in result.stdout and "nothing is said of other seeds" not in result.stdout


def test_the_table(runs):
    result = compared(runs["copy-input"], runs["copy-demo"])
    assert "A: copy-input (" in result.stdout and "B: copy-demo (" in result.stdout
    assert "B better" in result.stdout and "corrected for 2 comparisons" in result.stdout
    assert "McNemar" in result.stdout and "permutation" in result.stdout
    assert "nothing is said of other seeds" in result.stdout


def test_several_models_in_one_folder_are_not_mixed(runs, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(next(runs["copy-demo"].iterdir()), tmp_path / "both" / name)
    with pytest.raises(DataError, match=r"runs of 2 models are here: one, two \(name one\)"):
        read_run(tmp_path / "both")
    assert read_run(tmp_path / "both" / "one").files


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: [file.unlink() for file in run.glob("samples_*")], "no samples were kept"),
        (lambda run: next(run.glob("results_*")).write_text("{"), "not a results file of lm-eval"),
        (lambda run: [file.unlink() for file in run.glob("results_*")], "no results of lm-eval are here"),
        (lambda run: [file.write_text('{"doc') for file in run.glob("samples_*")], "a line is cut or no JSON"),
        (lambda run: [file.write_text('{"a": 1}') for file in run.glob("samples_*")], "not a sample of lm-eval"),
    ],
)
def test_broken_results_are_one_line(runs, tmp_path, damage, message):
    shutil.copytree(next(runs["copy-demo"].iterdir()), tmp_path / "run")
    damage(tmp_path / "run")
    result = compared(tmp_path / "run", runs["copy-input"])
    assert result.exit_code != 0
    assert message in result.output


def test_runs_of_other_tasks(runs, tmp_path):
    shutil.copytree(next(runs["copy-demo"].iterdir()), tmp_path / "run")
    for file in (tmp_path / "run").glob("samples_*"):
        lines = [json.loads(line) | {"doc_hash": "other"} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match="no scored question in common"):
        compare_runs([read_run(tmp_path / "run")], [read_run(runs["copy-input"])])
    result = compared(tmp_path / "run", runs["copy-input"], "--metric", "accuracy")
    assert "in common" in result.output
