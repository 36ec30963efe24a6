"""The plots as files: which there are, and what is drawn in each."""

from __future__ import annotations

from typing import Any

from peft_eval.report.page import looks_of
from peft_eval.report.palette import PAPER
from peft_eval.report.plot_data import curves, datasets, memory_column
from peft_eval.report.plots.listed import plots_of
from peft_eval.report.plots.plot import config, filled, height_of
from peft_eval.report.report import Report

WIDTH = 640


def images_of(report: Report) -> dict[str, dict[str, Any]]:
    """Returns the specifications of every plot of every suite's main score, by the names of their files."""
    memory = memory_column(report)
    plots = plots_of(looks_of(report), f"{memory.suite} {memory.shown}" if memory else None)
    losses, found = curves(report), {}
    for column in report.main_columns:
        records = datasets(report, column) | {"curves": losses}
        for plot in plots:
            if plot.has_data(records[plot.dataset]):
                name = plot.id if plot.dataset == "curves" else f"{column.suite}_{plot.id}"
                spec = filled(plot, f"{column.suite} {column.shown}", legend=True)
                points = records[plot.dataset]
                size = {"width": WIDTH, "height": height_of(spec, points)}
                found[name] = {**spec, **size, "data": {"values": points}, "config": config(PAPER)}
    return found
