"""A report of a study with two bases, more rows than are compared, and claims of a paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peft_eval.report.drawing import library
from peft_eval.report.from_study import claims_of_study, entries_of_study, suites_of_study
from peft_eval.report.page import page_of
from peft_eval.report.plot_data import datasets
from peft_eval.report.report import Report, report_of
from peft_eval.report.rows import Column
from peft_eval.study.file import read_study
from peft_eval.study.study import Study
from tests.report.chromium import watched
from tests.report.made import make_study

UNSEEN = Column("mini_unseen", "rougeL,none")
BASES = ["zoo:base", "org/larger"]
STUDY = """
name = "instruction_tuning_lr"
[train]
data = "mini"
tasks = 1
max_steps = 40
learning_rate = 1e-3
[axes]
base = ["zoo:base", "org/larger"]
seed = [1, 2]
[methods.full]
[methods.lora]
rank = [2, 4, 8]
[methods.adapter]
size = [8, 16]
[evaluate]
suites = ["mini_unseen"]
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    file, store = make_study(tmp_path_factory.mktemp("bases"), STUDY, diverged=None)
    study = Study(read_study(file), store)
    return report_of(
        entries_of_study(study),
        suites_of_study(study),
        title="Two bases",
        source="here",
        claims=claims_of_study(study),
        most_samples=10**6,
        progress=lambda name, total: lambda: None,
    )


@pytest.fixture(scope="module")
def tab(browser: Any, report: Report, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    page: Path = tmp_path_factory.mktemp("page") / "report.html"
    page.write_text(page_of(report, library()), encoding="utf-8")
    with watched(browser, page) as open_page:
        yield open_page()


def test_each_base_is_a_row_with_its_own_size(report):
    assert report.bases == BASES
    assert [row.first.base for row in report.rows if row.kind == "base"] == BASES
    sizes = {(point["base"], point["base_parameters"]) for point in datasets(report, UNSEEN)["rows"]}
    assert sizes == {("zoo:base", 4_000_000), ("org/larger", 16_000_000)}


def test_of_too_many_rows_the_best_of_each_method_and_base_are_compared(report):
    assert len(report.rows) == 14
    picked = report.selections[UNSEEN]
    assert picked.how == "all rows; of each method the best by this very score, which flatters it"
    compared = {(row.label, row.first.base): row.scores[UNSEEN].value for row in picked.rows}
    assert len(compared) == len(picked.rows) == 8 and len(report.pairs[UNSEEN]) == 28
    for (label, base), score in compared.items():
        same = [row for row in report.rows if (row.label, row.first.base) == (label, base)]
        assert score == max(row.scores[UNSEEN].value for row in same)
    assert {row.first.coordinates["rank"] for row in picked.rows if row.label == "lora"} == {8}


def test_the_page_names_and_filters_bases(tab):
    rows = "#table tbody tr[id]:not([hidden])"
    assert "base" in tab.locator("#table thead th").all_inner_texts()
    assert tab.locator(rows).count() == 14
    tab.wait_for_selector("figure[data-plot=score_by_base_parameters]:not([hidden]) svg", state="attached")
    tab.select_option("[name=base]", "org/larger")
    assert {row.get_attribute("data-base") for row in tab.locator(rows).all()} == {"org/larger"}
    assert tab.locator(rows).count() == 7
    assert tab.locator(".pinned tr[id]:not([hidden])").count() == 2  # the base, and full fine-tuning of it


def test_the_claims_that_the_study_asks_about_are_shown_with_their_verdicts(report, tab):
    claims = report.claims
    assert [claim.verdict for claim in claims] == ["not held", "not decided"]
    tab.locator("nav a[href='#claims']").click()
    lines = tab.locator("#claims tbody tr")
    shown = [[cell.strip() for cell in line.locator("td").all_inner_texts()] for line in lines.all()]
    expected = [[f"{claim.claim} {claim.paper}", claim.verdict, claim.test, claim.numbers] for claim in claims]
    assert shown == expected
    assert "adapter loses" in claims[0].numbers and claims[1].numbers == "no checkpoint on the way has scores"
