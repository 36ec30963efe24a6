"""A report of a small study, written once, and one Chromium to open it in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from peft_eval.cli.main import cli
from tests.report import chromium
from tests.report.made import make_study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study's file and its store."""
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def report(study: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study's report."""
    file, store = study
    output = tmp_path_factory.mktemp("report")
    arguments = ["report", str(file), "--store", str(store), "--output", str(output)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return output


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium with a profile of its own."""
    executable = chromium.executable()
    if executable is None:
        pytest.skip("no chromium here (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=executable, args=chromium.ARGUMENTS)
        yield started
        started.close()
