"""The points of the plots, as flat records: the same for the page and for the image files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peft_eval.report.entry import Entry, newest
from peft_eval.report.report import Report
from peft_eval.report.rows import Column, Row, score_of
from peft_eval.report.settings import rate_of, setting_of, size_axes
from peft_eval.study.results import Run

Records = list[dict[str, Any]]
MOST_CURVES = 150
POINTS_OF_A_CURVE = 60
MOST_BARS = 80


def datasets(report: Report, column: Column) -> dict[str, Records]:
    """Returns every plot's records for one score, by the name that the plots know them by."""
    return {
        "rows": _rows(report, column),
        "way": _on_the_way(report, column),
        "categories": _categories(report, column),
        "pairs": _pairs(report, column),
    }


def curves(report: Report) -> Records:
    """Returns the training loss by step, of the rule's choices where all are too many, thinned out where it is long."""
    entries = [
        (row, entry)
        for row in report.rows
        for entry in row.entries
        if entry.manifest and entry.manifest.training and entry.manifest.training.losses
    ]
    if len(entries) > MOST_CURVES:
        entries = [(row, entry) for row, entry in entries if entry.chosen] or entries
        entries = entries[:: -(-len(entries) // MOST_CURVES)]
    return [
        {**_identity(row), "curve": f"{row.id} {entry.seed}", "seed": entry.seed, "step": step, "loss": loss}
        for row, entry in entries
        for step, loss in _thinned(_losses(entry))
    ]


def memory_column(report: Report) -> Column | None:
    """Returns the main score of the first suite on what a checkpoint was trained on; None if there is none."""
    return next((column for column in report.main_columns if "memorization" in column.suite), None)


def _identity(row: Row) -> dict[str, Any]:
    return {"row": row.id, "name": row.name, "label": row.label, "kind": row.kind, "base": row.first.base}


def _rows(report: Report, column: Column) -> Records:
    sizes, memory = size_axes(report.rows), memory_column(report)
    sign = 1 if report.higher_is_better[column] else -1
    values = [row.scores[column].value for row in report.rows if column in row.scores]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    found = []
    for row in report.rows:
        score = row.scores.get(column)
        first = row.first
        record = {
            **_identity(row),
            "setting": setting_of(row),
            "status": first.status,
            "chosen": first.chosen,
            "bar": first.chosen or len(report.rows) <= MOST_BARS,
            "rate": rate_of(row),
            "size": first.coordinates.get(sizes.get(row.label, "")),
            "size_axis": sizes.get(row.label),
            "tasks": first.coordinates.get("tasks"),
            "base_parameters": _base_parameters(report, first),
            "trainable": row.mean_of(lambda entry: entry.trainable_parameters),
            "seconds": row.mean_of(lambda entry: entry.seconds),
            "memory": row.mean_of(lambda entry: entry.memory_bytes),
            "bytes": row.mean_of(lambda entry: entry.checkpoint_bytes),
        }
        if score:
            level = (score.value - low) / (high - low) if high > low else 0.5
            record |= {"score": score.value, "merit": sign * score.value, "level": round(level, 4)}
            record |= {"low": score.low, "high": score.high, "seeds": score.seeds, "questions": score.questions}
            record |= _bar(record, low, high)
        if memory and memory in row.scores:
            record["memorized"] = row.scores[memory].value
        found.append({key: value for key, value in record.items() if value is not None})
    return found


def _bar(ends: Mapping[str, Any], low: float, high: float) -> dict[str, float]:
    """Returns where a bar is drawn: one of two seeds may be far longer than all scores lie apart, and is cut."""
    if ends["low"] is None or ends["high"] is None:
        return {}
    room = (high - low) / 2
    return {"from": max(ends["low"], low - room), "to": min(ends["high"], high + room)}


def _base_parameters(report: Report, entry: Entry) -> int | None:
    same = (other.base_parameters for other in report.entries if other.base == entry.base)
    return next((count for count in same if count), None)


def _on_the_way(report: Report, column: Column) -> Records:
    """Returns the scores of checkpoints on the way, with the last one's at its own step."""
    found = []
    for row in report.rows:
        for entry in row.entries:
            scores = {step: _reported(newest(runs, column.suite), column) for step, runs in entry.steps.items()}
            if not any(value is not None for value in scores.values()):
                continue
            if entry.manifest and entry.manifest.training:
                scores[entry.manifest.training.steps] = _reported(entry.run_of(column.suite), column)
            point = {**_identity(row), "curve": f"{row.id} {entry.seed}", "seed": entry.seed}
            found += [point | {"step": step, "score": value} for step, value in scores.items() if value is not None]
    return found


def _reported(run: Run | None, column: Column) -> float | None:
    return run.reported(*column) if run else None


def _categories(report: Report, column: Column) -> Records:
    """Returns the scores of the groups and tasks right below a suite, of the rows that are compared."""
    selected = report.selections.get(column)
    if selected is None:
        return []
    found = []
    for row in selected.rows:
        for name in _below(row, column.suite):
            score = score_of(row.entries, Column(name, column.metric))
            if score:
                shown = name.removeprefix(column.suite).strip("_") or name
                record = {**_identity(row), "category": shown.replace("_", " "), "score": score.value}
                found.append(record | {"low": score.low, "high": score.high, "questions": score.questions})
    values = [0.0, *(record["score"] for record in found)]
    return [record | _bar(record, min(values), max(values)) for record in found]


def _below(row: Row, suite: str) -> Sequence[str]:
    runs: Iterable[Any] = filter(None, (entry.run_of(suite) for entry in row.entries))
    return next((run.table.get("group_subtasks", {}).get(suite) or [] for run in runs), [])


def _pairs(report: Report, column: Column) -> Records:
    """Returns each comparison twice, once from each side."""
    found = []
    places = {row.id: place for place, row in enumerate(report.rows)}
    for pair in report.pairs.get(column, ()):
        one = pair.difference
        for sign, above, beside in ((1, pair.second, pair.first), (-1, pair.first, pair.second)):
            ends = sorted([sign * one.low, sign * one.high])
            merit = sign * one.value if pair.higher_is_better else -sign * one.value
            found.append(
                {
                    "row": above.id,
                    "name": above.name,
                    "than": beside.name,
                    "place": places[above.id],
                    "place_than": places[beside.id],
                    "difference": sign * one.value,
                    "merit": merit,
                    "low": ends[0],
                    "high": ends[1],
                    "p": pair.corrected,
                    "test": one.test,
                    "questions": one.questions,
                    "verdict": f"{pair.better.name} better" if pair.better else "not decisive",
                    "decisive": pair.better is not None,
                }
            )
    return found


def _losses(entry: Entry) -> Sequence[tuple[int, float]]:
    training = entry.manifest.training if entry.manifest else None
    return training.losses if training else []


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    return points[:: -(-len(points) // POINTS_OF_A_CURVE)]
