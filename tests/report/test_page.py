"""The page in a real Chromium: it renders, sorts, filters, shows samples, fetches nothing and runs nothing else."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.chromium import watched
from tests.report.made import HOSTILE, HOSTILE_LABEL

ROWS = "#table tbody tr[id]:not([hidden])"


@pytest.fixture(scope="module")
def opened(browser: Any, report: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page; at the end, no page has logged an error or asked for anything but itself."""
    with watched(browser, report / "report.html") as open_page:
        yield open_page


@pytest.fixture(scope="module")
def tab(opened: Callable[..., Any]) -> Any:
    """The page, opened once."""
    return opened()


@pytest.fixture(autouse=True)
def as_new(request: pytest.FixtureRequest) -> Iterator[None]:
    """Closes dialogs and takes filters back after a test."""
    yield
    if "tab" in request.fixturenames:
        tab = request.getfixturevalue("tab")
        assert tab.evaluate("window.hacked") is None
        tab.evaluate("document.querySelectorAll('dialog[open]').forEach(one => one.close())")
        tab.evaluate("() => { filters.reset(); return applyFilters(); }")


def drawn(tab: Any) -> None:
    """Waits until every plot is drawn."""
    tab.wait_for_function("() => figures.every((one) => one.hidden || one.querySelector('svg'))")


def column(tab: Any, head: str) -> list[str]:
    """Returns what the rows that are not pinned show in a column."""
    heads = [text.split("\n")[0].strip() for text in tab.locator("#table thead th:not([hidden])").all_inner_texts()]
    cells = tab.locator(f"#table tbody:not(.pinned) tr[id]:not([hidden]) > :nth-child({heads.index(head) + 1})")
    return cells.all_inner_texts()


def test_the_table_has_the_base_full_fine_tuning_and_every_row(tab):
    assert tab.title() == tab.inner_text("h1") == "A <b>small</b> study {{ 7 * 7 }}"
    assert tab.locator("#table .pinned tr").all_inner_texts()[0].startswith("base")
    assert tab.locator(".pinned tr[data-label=full]").count() == 2
    assert tab.locator(ROWS).count() == 9  # a base, four settings at two rates
    assert "9 of 9 rows" in tab.inner_text("#shown")
    assert tab.locator("tr[data-chosen]").count() == 4
    assert tab.locator("tr", has_text="diverged").count() >= 2  # in the table, and with its reason


def test_a_column_sorts_both_ways_and_says_so(tab):
    head = tab.locator("#table thead th", has_text="trainable")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(tab, "trainable") == ["8k", "8k", "8k", "4k", "4k", ""]  # what diverged has none
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(tab, "trainable") == ["4k", "4k", "8k", "8k", "8k", ""]
    assert tab.locator("#table thead [aria-sort=none]").count() == tab.locator("#table thead th").count() - 1


def test_filters_act_on_table_and_plots_and_leave_what_is_measured_against(tab):
    drawn(tab)
    points = "#plot-pareto_trainable .mark-symbol path"
    before = tab.locator(points).count()
    tab.locator(".chips label", has_text="adapter").click()
    tab.wait_for_function(f"document.querySelectorAll('{points}').length < {before}")
    assert tab.locator(ROWS).count() == 7
    tab.locator("[name=chosen]").check()
    assert tab.locator("tbody:not(.pinned) tr[id]:not([hidden])").count() == 2
    assert tab.locator(".pinned tr[id]:not([hidden])").count() == 3
    tab.locator(".chips label", has_text="full").click()
    assert tab.locator(".pinned tr[id]:not([hidden])").count() == 3


def test_a_suite_shows_its_columns_alone_and_becomes_the_plots_score(tab):
    tab.select_option("[name=suite]", "mini_memorization")
    heads = tab.locator("#table thead th:not([hidden])").all_inner_texts()
    assert any("mini memorization" in head for head in heads) and not any("mini unseen" in head for head in heads)
    tab.wait_for_function("document.querySelector('#plot-pareto_trainable svg').textContent.includes('memorization')")


def test_the_plots_that_have_data_are_drawn(tab):
    expected = {
        "pareto_trainable",
        "pareto_memory",
        "pareto_seconds",
        "pareto_bytes",
        "heat_map",
        "score_by_rate",
        "score_by_size",
        "curve_loss",
        "curve_score",
        "categories",
        "memorization",
        "differences",
    }
    visible = "(names) => names.every((name) => document.querySelector(`figure[data-plot=${name}]:not([hidden]) svg`))"
    tab.wait_for_function(visible, arg=sorted(expected))
    drawn(tab)
    shown = {one.get_attribute("data-plot") for one in tab.locator("figure:not([hidden])").all()}
    assert shown >= expected
    assert tab.locator("#plot-heat_map .mark-rect path").count() >= 7
    assert HOSTILE_LABEL in tab.text_content("#plot-heat_map svg")


def test_a_score_opens_its_samples_paged_and_hostile_text_stays_text(tab):
    tab.locator(f"tr[data-label='{HOSTILE_LABEL}'][data-chosen] button.score").first.click()
    tab.wait_for_selector("#samples article")
    assert tab.locator("#samples article").count() == 20
    assert tab.inner_text(".pager span") == "1–20 of 25"
    assert HOSTILE in tab.locator("#samples article pre").first.inner_text()
    assert "answer 0\n― or ―\nanother" in tab.locator("#samples article").first.inner_text()
    heads = tab.locator("#samples article").first.locator(".answers h4").all_inner_texts()
    assert [head.split(" · ")[0].split()[-1] for head in heads] == ["1", "2", "base"]  # two seeds, and the base beside
    tab.locator(".pager button", has_text="Next").click()
    tab.wait_for_function("document.querySelectorAll('#samples article').length === 5")
    tab.select_option("#samples [name=order]", "worst")
    tab.wait_for_function("document.querySelector('.pager span').textContent === '1–20 of 25'")
    scores = [float(text.split()[-1]) for text in tab.locator("#samples .answers > :nth-child(1) h4").all_inner_texts()]
    assert min(scores) < 100
    assert tab.locator("#samples script, #samples img").count() == 0
    tab.keyboard.press("Escape")
    assert not tab.locator("#samples").is_visible()


def test_a_link_opens_samples(opened):
    tab = opened("#samples-r0-0")
    tab.wait_for_selector("#samples article")
    assert tab.inner_text("#samples-title") == "base: mini_unseen rougeL"


def test_a_point_opens_its_samples(tab):
    drawn(tab)
    # Beside the middle, where the interval lies on the bar.
    tab.locator("#plot-categories .mark-rect path").first.click(position={"x": 4, "y": 2})
    tab.wait_for_selector("#samples article")


def test_a_name_opens_settings_and_hashes(tab):
    tab.locator("tr[data-label=full] button.name").first.click()
    tab.wait_for_function("document.querySelector('#details').textContent.includes('peak memory')")
    text = tab.inner_text("#details")
    for part in ("learning rate", "0.001", "0" * 64, "1" * 64, "seed", "peak memory bytes"):
        assert part in text, part
    tab.locator("#details .close").click()
    assert not tab.locator("#details").is_visible()


def test_links_lead_to_their_sections(tab):
    targets = [link.get_attribute("href") for link in tab.locator("nav a").all()]
    assert {"#scores", "#plots", "#comparisons", "#sensitivity", "#contamination", "#ended"} <= set(targets)
    assert all(tab.locator(target).count() == 1 for target in targets)
    tab.locator("nav a[href='#ended']").click()
    assert tab.locator("#ended").is_visible()
    assert HOSTILE in tab.inner_text("#ended")


def test_the_table_and_plots_can_be_saved(tab):
    drawn(tab)
    with tab.expect_download() as download:
        tab.click("#csv")
    lines = list(csv.reader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
    assert len(lines) == 10 and len({len(line) for line in lines}) == 1
    with tab.expect_download() as download:
        tab.locator("#plot-heat_map .save").click()
    drawing = Path(download.value.path()).read_text(encoding="utf-8")
    assert drawing.startswith("<svg") and "var(--" not in drawing


def test_light_and_dark_follow_the_system_and_the_button(opened):
    tab = opened(color_scheme="dark")
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, dark[4:-1].split(","))) < 150
    tab.click("#theme")
    light = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, light[4:-1].split(","))) > 600
    assert tab.get_attribute("#theme", "aria-pressed") == "false"


def test_nothing_sticks_out_on_a_phone(opened):
    tab = opened(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    drawn(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.locator("button.score").first.tap()
    tab.wait_for_selector("#samples article")
    box = tab.locator("#samples").bounding_box()
    assert box["width"] <= 390 and box["x"] >= 0


def test_print_shows_all_rows_and_no_controls(opened):
    tab = opened()
    drawn(tab)
    tab.emulate_media(media="print", color_scheme="dark")
    assert not tab.locator("#filters").is_visible() and not tab.locator("nav").is_visible()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert len(tab.pdf(format="A4")) > 10_000


def test_a_script_that_got_in_would_not_run(browser, report):
    context = browser.new_context()
    tab = context.new_page()
    tab.goto((report / "report.html").as_uri())
    tab.evaluate(
        """() => {
            window.blocked = 0;
            addEventListener("securitypolicyviolation", () => window.blocked++);
            const place = document.createElement("div");
            place.innerHTML = '<img src="data:," onerror="window.hacked = 1">';
            const script = document.createElement("script");
            script.textContent = "window.hacked = 2";
            document.body.append(place, script);
        }"""
    )
    tab.wait_for_function("window.blocked >= 2")
    assert tab.evaluate("window.hacked") is None
    context.close()
