"""The scores of several runs side by side, read from lm-eval's results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Column = tuple[str, str]


def score_columns(results: Sequence[dict[str, Any]], asked: Sequence[str]) -> list[Column]:
    """Returns task and metric of each column: of what was asked for, else of all groups, else of all tasks.

    Args:
        results: lm-eval's results, of runs that had the same tasks.
        asked: names as given to `--tasks`.
    """
    columns: list[Column] = []
    for one in results:
        found = _scores(one)
        groups = one.get("groups") or {}
        names = [name for name in asked if name in found] or list(groups) or list(found)
        for name in names:
            columns += [(name, metric) for metric in found[name] if not _is_error(metric)]
    return list(dict.fromkeys(columns))


def score_text(results: dict[str, Any], column: Column) -> str:
    """Returns a score with its standard error, empty if the run has none there."""
    task, metric = column
    found = _scores(results).get(task, {})
    value = found.get(metric)
    if not isinstance(value, int | float):
        return ""
    name, _, ending = metric.partition(",")
    error = found.get(f"{name}_stderr,{ending}")
    return f"{value:.4g} ± {error:.2g}" if isinstance(error, int | float) and error == error else f"{value:.4g}"


def _scores(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    merged = {**(results.get("results") or {}), **(results.get("groups") or {})}
    return {
        task: {metric: value for metric, value in row.items() if "," in metric} for task, row in merged.items() if row
    }


def _is_error(metric: str) -> bool:
    return metric.partition(",")[0].endswith("_stderr")
