"""The score against one number: a cost, a size, the number of tasks, the memorization of the training tasks."""

from __future__ import annotations

from collections.abc import Mapping

from peft_eval.report.palette import Look
from peft_eval.report.plots.plot import BARS, Plot, Spec, count, look, score_axis, tooltip


def pareto(looks: Mapping[str, Look], field: str, title: str) -> Plot:
    """The score against a cost, with the Pareto front."""
    x = _x(field, title)
    front = {
        "transform": [
            {"filter": f"datum.kind !== 'base' && isValid(datum.score) && datum.{field} > 0"},
            {
                "window": [{"op": "max", "field": "merit", "as": "front"}],
                "sort": [{"field": field, "order": "ascending"}, {"field": "merit", "order": "descending"}],
                "frame": [None, 0],
            },
            {"filter": "datum.merit >= datum.front"},
        ],
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.5, "color": "#8b8f96"},
        "encoding": {"x": x, "y": score_axis(), "order": {"field": field}},
    }
    return Plot(
        f"pareto_{field}",
        f"Score against {title.split(',')[0]}",
        f"Stepped line: nothing cheaper scores better (Pareto front). Dashed: the base. {BARS}",
        "rows",
        {"layer": [_base_rule(), front, *_points(looks, x, field)]},
        lambda rows: count(rows, field) > 1,
    )


def along(looks: Mapping[str, Look], field: str, x_title: str, title: str, by: str = "label") -> Plot:
    """The score along an axis of the study."""
    x = _x(field, x_title)
    line = {
        "transform": [
            {"filter": f"datum.kind !== 'base' && isValid(datum.score) && datum.{field} > 0"},
            *([{"filter": "datum.chosen !== false"}] if field != "rate" else []),
            {
                "joinaggregate": [{"op": "max", "field": "merit", "as": "best"}],
                "groupby": [by, "base", field] if field != "base_parameters" else [by, field],
            },
            {"filter": "datum.merit === datum.best"},
        ],
        "mark": {"type": "line", "strokeWidth": 1.8, "opacity": 0.8},
        "encoding": {
            "x": x, "y": score_axis(), "color": look(looks)["color"],
            "detail": [{"field": one} for one in ((by, "base") if field != "base_parameters" else (by,))],
        },
    }  # fmt: skip
    how = (
        "A line for each setting of a method."
        if by == "setting"
        else "Lines join the best setting at each point, or what the study's rule chose."
    )
    return Plot(
        f"score_by_{field}",
        title,
        f"{how} Dashed: the base. {BARS}",
        "rows",
        {"layer": [_base_rule(), line, *_points(looks, x, field, opacity=0.8)]},
        lambda rows: count(rows, field) > 1,
    )


def memorization(looks: Mapping[str, Look], memory: str) -> Plot:
    """Held-out instances of the training tasks against unseen tasks."""
    x = {"field": "memorized", "type": "quantitative", "title": memory, "scale": {"zero": False}}
    return Plot(
        "memorization",
        "Memorization against generalisation",
        f"Up: better on unseen tasks. Right: better on the tasks it was trained on. {BARS}",
        "rows",
        {"layer": [_base_rule(), *_points(looks, x, "memorized")]},
        lambda rows: any("memorized" in row and row.get("memorized") != row.get("score") for row in rows),
    )


def _x(field: str, title: str) -> Spec:
    axis = {"format": "~s", "labelOverlap": True} if field != "rate" else {"format": ".0e", "labelOverlap": True}
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "nice": False, "padding": 14},
        "axis": axis,
    }


def _base_rule() -> Spec:
    return {
        "transform": [{"filter": "datum.kind === 'base' && isValid(datum.score)"}],
        "mark": {"type": "rule", "strokeDash": [5, 4], "tooltip": True},
        "encoding": {"y": score_axis(), "tooltip": tooltip("score", "low", "high")},
    }


def _points(looks: Mapping[str, Look], x: Spec, field: str, *, opacity: float = 0.95) -> list[Spec]:
    here = f"datum.kind !== 'base' && isValid(datum.score) && datum.{field} > 0"
    return [
        {
            "transform": [{"filter": f"{here} && datum.bar && isValid(datum.from)"}],
            "mark": {"type": "rule", "opacity": 0.35},
            "encoding": {
                "x": x, "y": {"field": "from", "type": "quantitative"}, "y2": {"field": "to"},
                "color": look(looks)["color"],
            },
        },
        {
            "transform": [{"filter": here}],
            "mark": {"type": "point", "filled": True, "size": 62, "opacity": opacity, "cursor": "pointer"},
            "encoding": {
                "x": x, "y": score_axis(), **look(looks),
                "tooltip": tooltip("score", "low", "high", "seeds", field),
            },
        },
    ]  # fmt: skip
