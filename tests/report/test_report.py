"""What a report says, against what lm-eval wrote; and everything that is written beside the page."""

from __future__ import annotations

import csv
import json
import shutil
import xml.etree.ElementTree

import pytest
from click.testing import CliRunner

from peft_eval.cli.main import cli
from peft_eval.report.details import details_of
from peft_eval.report.from_folder import entries_of_runs, runs_below, suites_of_runs
from peft_eval.report.from_study import entries_of_study, suites_of_study
from peft_eval.report.plot_data import datasets
from peft_eval.report.report import Report, report_of
from peft_eval.report.rows import Column
from peft_eval.study.file import read_study
from peft_eval.study.study import Study
from tests.report.made import HOSTILE_LABEL, QUESTIONS

UNSEEN = Column("mini_unseen", "rougeL,none")


def quietly(name: str, total: int):
    return lambda: None


@pytest.fixture(scope="module")
def of_study(study) -> Report:
    one = Study(read_study(study[0]), study[1])
    return report_of(
        entries_of_study(one), suites_of_study(one), title="a", source="b", most_samples=10**6, progress=quietly
    )


@pytest.fixture(scope="module")
def of_folder(study) -> Report:
    runs = runs_below(study[1] / "evaluations")
    suites = suites_of_runs(run for own in runs.values() for run in own)
    return report_of(entries_of_runs(runs), suites, title="a", source="b", most_samples=10**6, progress=quietly)


def test_rows_join_seeds_and_keep_what_did_not_end_well(of_study):
    assert [row.kind for row in of_study.rows[:3]] == ["base", "full", "full"]
    assert {len(row.entries) for row in of_study.rows if row.first.chosen} == {2}
    (ended,) = [row for row in of_study.rows if row.first.status == "diverged"]
    assert (ended.label, ended.scores) == ("adapter", {})


def test_details_do_not_say_where_the_store_lies(of_study, study):
    told = json.dumps([details_of(row) for row in of_study.rows])
    assert str(study[1]) not in told
    assert '{"peft": ".../' in told


def test_scores_are_lm_evals_averaged_over_seeds(of_study):
    for row in of_study.rows:
        reported = [run.reported(*UNSEEN) for entry in row.entries if (run := entry.run_of("mini_unseen"))]
        if reported:
            score = row.scores[UNSEEN]
            assert score.value == pytest.approx(sum(reported) / len(reported))
            assert score.low < score.value < score.high
            assert (score.questions, score.seeds) == (2 * QUESTIONS, len(reported))


def test_a_folder_of_results_says_the_same(of_study, of_folder):
    def by_score(report: Report) -> set:
        return {(row.kind, len(row.entries), round(row.scores[UNSEEN].value, 6)) for row in report.rows if row.scores}

    assert by_score(of_folder) == by_score(of_study)
    (full, _) = [row for row in of_folder.rows if row.kind == "full"]
    assert full.first.trainable_parameters == full.first.base_parameters == 4_000_000
    loras = [row.first for row in of_folder.rows if row.label == "lora"]
    assert {tuple(one.coordinates) for one in loras} == {("learning_rate", "rank")}


def test_checkpoints_on_the_way_are_points_of_their_runs_and_no_rows(of_study, of_folder):
    for report in (of_study, of_folder):
        points = datasets(report, UNSEEN)["way"]
        assert {(point["kind"], point["step"]) for point in points} == {("full", 20), ("full", 40)}
        assert not any("step" in row.name for row in report.rows)


def test_the_comparison_is_of_what_the_rule_chose(of_study):
    picked = of_study.selections[UNSEEN]
    assert picked.how == "what the study's rule chose"
    assert {row.label for row in picked.rows} == {"base", "full", "adapter", HOSTILE_LABEL}
    pairs = of_study.pairs[UNSEEN]
    assert len(pairs) == len(picked.rows) * (len(picked.rows) - 1) / 2
    assert all(pair.corrected >= pair.difference.p_value for pair in pairs)
    against_base = [pair for pair in pairs if pair.first.kind == "base" and pair.second.kind == "full"]
    assert [pair.better.kind for pair in against_base] == ["full"]


def test_sensitivity_names_the_best_rate_and_what_failed(of_study):
    lines = {line.setting: line for line in of_study.sensitivities[UNSEEN]}
    assert {line.rates for line in lines.values()} == {2}
    assert (lines["adapter"].ended, lines["adapter"].best_rate, lines["adapter"].beside) == (1, 1e-2, None)
    assert (lines["full"].best_rate, lines["full"].ended) == (1e-3, 0)
    assert lines["full"].best >= lines["full"].worst == lines["full"].beside


def test_contamination_tells_the_score_without_the_questions(of_study):
    held = [one for one in of_study.contaminations if one.overlapping]
    assert {one.name.split()[0] for one in held} == {"full"}
    row = next(row for row in of_study.rows if row.name == held[0].name)
    run = row.first.run_of("mini_unseen")
    kept = [
        [score for question, score in run.scores[task]["rougeL,none"].items() if question != f"{task}3#1"]
        if task == "mini_unseen_comparison"
        else list(run.scores[task]["rougeL,none"].values())
        for task in run.tasks_of("mini_unseen")
    ]
    if len(row.entries) == 1:
        assert held[0].without == pytest.approx(sum(map(sum, kept)) / sum(map(len, kept)))
    (clean,) = [one for one in of_study.contaminations if not one.overlapping]
    assert (clean.questions, clean.score) == (QUESTIONS, None)


def test_samples_beyond_the_limit_are_cut_the_same_for_every_row(study):
    one = Study(read_study(study[0]), study[1])
    report = report_of(
        entries_of_study(one), suites_of_study(one), title="a", source="b", most_samples=200, progress=quietly
    )
    assert report.samples.total == sum(
        QUESTIONS * (len(entry.run_of(suite).tasks_of(suite)))
        for entry in report.entries
        for suite in ("mini_unseen", "mini_memorization")
        if entry.run_of(suite)
    )
    assert 200 <= report.samples.kept < report.samples.total / 3


def test_tables_and_plots_lie_beside_the_page(report, of_study):
    tables = {file.name for file in (report / "tables").iterdir()}
    names = ("scores", "runs", "differences", "sensitivity", "contamination", "ended")
    assert tables == {f"{name}.{ending}" for name in names for ending in ("csv", "json", "tex")}
    scores = list(csv.DictReader((report / "tables" / "scores.csv").open()))
    assert [float(line["mini_unseen rougeL"]) for line in scores if line["mini_unseen rougeL"]] == pytest.approx(
        [row.scores[UNSEEN].value for row in of_study.rows if UNSEEN in row.scores]
    )
    assert len(json.loads((report / "tables" / "runs.json").read_text())) == len(of_study.entries)
    latex = (report / "tables" / "scores.tex").read_text()
    assert latex.count(r"\\") == len(of_study.rows) + 1 and r"mini\_unseen rougeL" in latex
    drawings = list((report / "plots").glob("*.svg"))
    assert len(drawings) == 20
    for drawing in drawings:
        assert "http" not in xml.etree.ElementTree.parse(drawing).getroot().attrib
        assert drawing.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def run(*arguments: object):
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def test_errors_are_one_line(study, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no results of lm-eval are here" in run(tmp_path / "empty", "--output", tmp_path / "out").output
    nothing = run(study[0], "--store", tmp_path / "none", "--output", tmp_path / "out")
    assert nothing.exit_code == 2 and "nothing was evaluated yet" in nothing.output
    shutil.copytree(study[1], tmp_path / "store")
    file = next((tmp_path / "store").rglob("zoo:base/samples_*.jsonl"))
    file.write_text(file.read_text()[:-20])
    broken = run(tmp_path / "store" / "evaluations", "--output", tmp_path / "out")
    assert broken.exit_code == 2 and "a line is cut or no JSON" in broken.output
