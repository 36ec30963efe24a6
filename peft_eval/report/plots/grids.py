"""Plots with a mark for each pair of things: learning rate and setting, category and row, row and row."""

from __future__ import annotations

from collections.abc import Mapping

from peft_eval.report.entry import ENDED
from peft_eval.report.palette import Look
from peft_eval.report.plots.plot import SCORE, Plot, Spec, count, look, score_axis, tooltip


def heat_map() -> Plot:
    """Every setting at every learning rate."""
    y = {"field": "setting", "type": "nominal", "sort": None, "title": None}
    x = {"field": "rate", "type": "ordinal", "title": "learning rate", "axis": {"format": ".0e", "labelAngle": 0}}
    trained = {"filter": "datum.kind !== 'base' && isValid(datum.rate)"}
    return Plot(
        "heat_map",
        "Learning rate × size",
        "Every setting at every learning rate. Outlined: what the study's rule chose. ×: failed or diverged.",
        "rows",
        {
            "transform": [trained],
            "encoding": {"x": x, "y": y, "tooltip": tooltip("score", "low", "high", "seeds", "status")},
            "layer": [
                {
                    "transform": [{"filter": "isValid(datum.score)"}],
                    "mark": {"type": "rect", "cornerRadius": 2, "cursor": "pointer"},
                    "encoding": {
                        "color": {
                            **score_axis(), "scale": {"range": ["#dbe7f3", "#0b4a83"]},
                            "legend": {"orient": "top", "gradientLength": 180},
                        },
                        "stroke": {"condition": {"test": "datum.chosen", "value": "#e07b1f"}, "value": None},
                        "strokeWidth": {"value": 2.5},
                    },
                },
                {
                    "transform": [{"filter": "isValid(datum.score)"}],
                    "mark": {"type": "text", "cursor": "pointer"},
                    "encoding": {
                        "text": {"field": "score", "format": ".3~g"},
                        "color": {"condition": {"test": "datum.level > 0.5", "value": "#fff"}, "value": "#14181d"},
                    },
                },
                {
                    "transform": [{"filter": {"field": "status", "oneOf": list(ENDED)}}],
                    "mark": {"type": "text", "fontWeight": 700},
                    "encoding": {"text": {"value": "×"}},
                },
            ],
            "usermeta": {"step": 22, "by": ["setting"]},
        },
        lambda rows: count(rows, "rate") > 1,
        wide=True,
    )  # fmt: skip


def categories(looks: Mapping[str, Look]) -> Plot:
    """The score in each category of a suite."""
    here = {
        "x": {"field": "score", "type": "quantitative", "title": SCORE},
        "y": {"field": "category", "type": "nominal", "sort": None, "title": None},
        "yOffset": {"field": "name", "sort": None},
    }
    return Plot(
        "categories",
        "Score by category",
        "The rows that are compared below. Bars: 95% intervals.",
        "categories",
        {
            "layer": [
                {
                    "mark": {"type": "bar", "cursor": "pointer"},
                    "encoding": {
                        **here, "color": look(looks)["color"],
                        "tooltip": tooltip("category", "score", "low", "high", "questions"),
                    },
                },
                {
                    "transform": [{"filter": "isValid(datum.from)"}],
                    "mark": {"type": "rule", "opacity": 0.6},
                    "encoding": {**here, "x": {"field": "from", "type": "quantitative"}, "x2": {"field": "to"}},
                },
            ],
            "usermeta": {"step": 14, "by": ["category", "name"]},
        },
        lambda records: len({record["category"] for record in records}) > 1,
        wide=True,
    )  # fmt: skip


def pairs() -> Plot:
    """Every row against every other."""
    return Plot(
        "differences",
        "Paired differences",
        "Row minus column on the same questions. Filled: decisive at 5% after correction for all pairs (Holm); "
        "blue where the row is better, red where it is worse. Grey: not decisive.",
        "pairs",
        {
            "encoding": {
                "x": {**_ordered("than", by="place_than"), "axis": {"labelAngle": -40}},
                "y": _ordered("name", by="place"),
                "tooltip": tooltip("than", "difference", "low", "high", "p", "test", "questions", "verdict"),
            },
            "layer": [
                {
                    "mark": {"type": "rect", "cornerRadius": 2, "cursor": "pointer"},
                    "encoding": {
                        "color": {
                            "condition": [
                                {"test": "!datum.decisive", "value": "#8b8f9633"},
                                {"test": "datum.merit > 0", "value": "#2f6fb0"},
                            ],
                            "value": "#c2483f",
                        }
                    },
                },
                {
                    "mark": {"type": "text"},
                    "encoding": {
                        "text": {"field": "difference", "format": "+.3~g"},
                        "color": {"condition": {"test": "datum.decisive", "value": "#fff"}, "value": "#7d838a"},
                    },
                },
            ],
            "usermeta": {"step": 26, "by": ["name"]},
        },
        bool,
        wide=True,
    )  # fmt: skip


def _ordered(field: str, *, by: str) -> Spec:
    return {"field": field, "type": "nominal", "sort": {"field": by, "op": "min"}, "title": None}
