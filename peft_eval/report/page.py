"""Writes a report as one HTML file that needs no network: styles, scripts, plots and samples are all in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from peft_eval import __version__
from peft_eval.report.details import details_of
from peft_eval.report.entry import ENDED, unstable_of
from peft_eval.report.numbers import count_text, score_text, seconds_text
from peft_eval.report.palette import PAGE, Look, looks
from peft_eval.report.plot_data import curves, datasets, memory_column
from peft_eval.report.plots.listed import plots_of
from peft_eval.report.plots.plot import HEIGHT, SCORE, config, filled
from peft_eval.report.report import Report
from peft_eval.report.rows import Column, Row, short
from peft_eval.report.samples import compressed
from peft_eval.report.settings import own_settings, shared_axes

_FOLDER = Path(__file__).with_name("page")
SCRIPTS = ("chunks.js", "theme.js", "table.js", "plots.js", "samples.js", "details.js", "start.js")


def looks_of(report: Report) -> dict[str, Look]:
    """Returns the look of each label of a report."""
    kinds = {row.label: row.kind for row in reversed(report.rows)}
    return looks(report.labels, [kinds[label] for label in report.labels])


def page_of(report: Report, library: str) -> str:
    """Returns the page.

    Args:
        report: what to show.
        library: the JavaScript that defines `vegaEmbed`.
    """
    known = looks_of(report)
    memory = memory_column(report)
    plots = plots_of(known, f"{memory.suite} {memory.shown}" if memory else None)
    chunks: dict[str, str] = {"curves": compressed(losses := curves(report))}
    available = []
    for number, column in enumerate(report.columns):
        records = datasets(report, column) | {"curves": losses}
        available.append([plot.id for plot in plots if plot.has_data(records[plot.dataset])])
        chunks[f"d{number}"] = compressed({name: part for name, part in records.items() if name != "curves"})
    chunks["details"] = compressed({row.id: details_of(row) for row in report.rows})
    shown = [plot for plot in plots if any(plot.id in one for one in available)]
    data = {
        "columns": [{"suite": column.suite, "metric": column.shown} for column in report.columns],
        "plots": [
            {"id": plot.id, "dataset": plot.dataset, "spec": filled(plot, SCORE, legend=False)} for plot in shown
        ],
        "available": available,
        "config": config(PAGE),
        "height": HEIGHT,
        "tasks": report.samples.tasks,
        "suites": report.samples.suites,
        "rows": {row.id: {"name": row.name, "base": row.first.base, "seeds": _seeds(row)} for row in report.rows},
        "bases": {row.first.base: row.id for row in report.rows if row.kind == "base"},
    }
    scales = {
        column: max(abs(row.scores[column].value) for row in report.rows if column in row.scores)
        for column in report.columns
    }
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    template = _environment().get_template("report.html")
    return template.render(
        report=report,
        data=data,
        chunks=chunks,
        samples=report.samples.chunks,
        plots=shown,
        looks=known,
        axes=shared_axes(report.rows),
        rows=[_table_row(report, row, known, scales) for row in report.rows],
        bad=ENDED,
        ended=[entry for entry in report.entries if entry.status in ENDED],
        unstable=[(entry, words) for entry in report.entries if (words := unstable_of(entry))],
        style=(_FOLDER / "report.css").read_text(encoding="utf-8"),
        script=script,
        library=library,
        policy=_policy(library, script),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short}
    return environment


def _policy(*scripts: str) -> str:
    """Returns the page's Content-Security-Policy: these scripts run, no other does, and nothing is fetched."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # Vega compiles its expressions: 'unsafe-eval' lets the scripts named above do so.
    return f"default-src 'none'; script-src {allowed} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"


def _seeds(row: Row) -> list[str]:
    return ["" if entry.seed is None else f"seed {entry.seed}" for entry in row.entries]


def _table_row(report: Report, row: Row, known: Mapping[str, Look], scales: Mapping[Column, float]) -> dict[str, Any]:
    scores: list[dict[str, Any] | None] = []
    for column in report.columns:
        score = row.scores.get(column)
        if score is None:
            scores.append(None)
            continue
        reach = None if score.low is None or score.high is None else (score.high - score.low) / 2
        scores.append(
            {
                "value": score.value,
                "text": score_text(score.value, scales[column]),
                "reach": None if reach is None else score_text(reach, scales[column]),
                "title": _title(score.low, score.high, score.questions, score.seeds),
            }
        )
    costs = [
        (row.mean_of(lambda entry: entry.trainable_parameters), count_text),
        (row.mean_of(lambda entry: entry.seconds), seconds_text),
        (row.mean_of(lambda entry: entry.memory_bytes), lambda value: count_text(value, "B")),
        (row.mean_of(lambda entry: entry.checkpoint_bytes), lambda value: count_text(value, "B")),
    ]
    statuses = [entry.status for entry in row.entries if entry.status != "done"]
    return {
        "id": row.id,
        "label": row.label,
        "kind": row.kind,
        "base": row.first.base,
        "colour": known[row.label].colour,
        "own": ", ".join(f"{axis} {short(value)}" for axis, value in own_settings(row).items()),
        "coordinates": row.first.coordinates,
        "chosen": row.first.chosen,
        "seeds": len(row.entries),
        "status": statuses[0] if statuses else "done",
        "scores": scores,
        "costs": [(value, text(value) if value is not None else "") for value, text in costs],
    }


def _title(low: float | None, high: float | None, questions: int, seeds: int) -> str:
    interval = "" if low is None else f"95% interval {low:.4g} to {high:.4g}; "
    return f"{interval}{questions:,} questions, {seeds} {'seed' if seeds == 1 else 'seeds'}: click for the samples"
