"""The report's tables as files: CSV and JSON with every digit, LaTeX with as many as a paper prints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from peft_eval.report.entry import ENDED, Entry
from peft_eval.report.report import Report
from peft_eval.report.rows import Row, short
from peft_eval.report.settings import rate_of

Lines = list[dict[str, Any]]


def tables_of(report: Report) -> dict[str, Lines]:
    """Returns each table's lines by the name of its files; empty tables are left out."""
    found = {
        "scores": [_row(report, row) for row in report.rows],
        "runs": [_run(report, row, entry) for row in report.rows for entry in row.entries],
        "differences": _differences(report),
        "sensitivity": _sensitivity(report),
        "ended": [_ended(entry) for entry in report.entries if entry.status in ENDED],
        "claims": [dataclasses.asdict(claim) for claim in report.claims],
        "contamination": _contamination(report),
    }
    return {name: lines for name, lines in found.items() if lines}


def write_tables(report: Report, folder: Path) -> list[Path]:
    """Writes every table as CSV, JSON and LaTeX (booktabs); returns the files."""
    import pandas as pd

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, lines in tables_of(report).items():
        files = {ending: folder / f"{name}.{ending}" for ending in ("csv", "json", "tex")}
        frame = pd.DataFrame(lines)
        frame.to_csv(files["csv"], index=False)
        frame.to_json(files["json"], orient="records", indent=1, force_ascii=False)
        latex = frame.to_latex(index=False, escape=True, na_rep="", float_format=lambda value: f"{value:.4g}")
        files["tex"].write_text(latex, encoding="utf-8")
        written += files.values()
    return written


def _row(report: Report, row: Row) -> dict[str, Any]:
    """Returns a line of the main table."""
    line: dict[str, Any] = {"name": row.name, "method": row.label, "kind": row.kind, "base": row.first.base}
    line |= {"learning_rate": rate_of(row), "seeds": len(row.entries), "chosen": row.first.chosen}
    line |= {
        "trainable_parameters": row.mean_of(lambda entry: entry.trainable_parameters),
        "seconds": row.mean_of(lambda entry: entry.seconds),
        "memory_bytes": row.mean_of(lambda entry: entry.memory_bytes),
        "checkpoint_bytes": row.mean_of(lambda entry: entry.checkpoint_bytes),
    }
    for column in report.columns:
        score = row.scores.get(column)
        name = f"{column.suite} {column.shown}"
        line |= {name: score and score.value, f"{name} low": score and score.low, f"{name} high": score and score.high}
    return line


def _run(report: Report, row: Row, entry: Entry) -> dict[str, Any]:
    """Returns a line for one training run: where it comes from, and its scores."""
    line: dict[str, Any] = {
        "name": row.name,
        "seed": entry.seed,
        "status": entry.status,
        "cell": entry.settings.get("cell"),
    }
    hashes = entry.hashes()
    line |= {f"{name}_sha256": hashes.get(name) for name in ("checkpoint", "base", "data")}
    for column in report.columns:
        run = entry.run_of(column.suite)
        line[f"{column.suite} {column.shown}"] = run.reported(*column) if run else None
    return line


def _differences(report: Report) -> Lines:
    return [
        {
            "suite": pair.column.suite,
            "metric": pair.column.shown,
            "A": pair.first.name,
            "B": pair.second.name,
            "A_score": pair.difference.first,
            "B_score": pair.difference.second,
            "difference": pair.difference.value,
            "low": pair.difference.low,
            "high": pair.difference.high,
            "p_corrected": pair.corrected,
            "test": pair.difference.test,
            "questions": pair.difference.questions,
            "better": pair.better.name if pair.better else "not decisive",
        }
        for pairs in report.pairs.values()
        for pair in pairs
    ]


def _sensitivity(report: Report) -> Lines:
    return [
        {"suite": column.suite, "metric": column.shown, **dataclasses.asdict(line), "best_rate": short(line.best_rate)}
        for column, lines in report.sensitivities.items()
        for line in lines
    ]


def _ended(entry: Entry) -> dict[str, Any]:
    return {"name": entry.name, "status": entry.status, "reason": entry.reason, "log": str(entry.log or "")}


def _contamination(report: Report) -> Lines:
    return [
        {
            "name": one.name,
            "suite": one.column.suite,
            "metric": one.column.shown,
            "questions": one.questions,
            "overlapping": one.overlapping,
            "score": one.score,
            "without": one.without,
        }
        for one in report.contaminations
    ]
