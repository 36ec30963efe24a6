"""Writes a report's folder: the page, the tables, the plots."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from peft_eval.report.drawing import draw, library
from peft_eval.report.images import images_of
from peft_eval.report.page import page_of
from peft_eval.report.report import Progress, Report
from peft_eval.report.tables import write_tables

PAGE_NAME = "report.html"
_MOST_PROCESSES = 4


class Written(NamedTuple):
    """The files of a report."""

    page: Path
    tables: list[Path]
    plots: list[Path]


def write_report(report: Report, folder: Path, *, progress: Progress) -> Written:
    """Writes everything; files of an earlier report with the same names are replaced."""
    page, plots = folder / PAGE_NAME, folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    images = images_of(report)
    step = progress("plots", len(images))
    processes = min(os.cpu_count() or 1, _MOST_PROCESSES)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        script = pool.submit(library)
        drawings = {name: pool.submit(draw, spec) for name, spec in images.items()}
        tables = write_tables(report, folder / "tables")
        page.write_text(page_of(report, script.result()), encoding="utf-8")
        written = []
        for name, drawing in drawings.items():
            svg, png = drawing.result()
            (plots / f"{name}.svg").write_text(svg, encoding="utf-8")
            (plots / f"{name}.png").write_bytes(png)
            written += [plots / f"{name}.svg", plots / f"{name}.png"]
            step()
    return Written(page, tables, written)
