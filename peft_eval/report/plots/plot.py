"""What all plots share: their parts, the look of a method, the axes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from peft_eval.report.palette import Look, Theme
from peft_eval.report.plot_data import Records

Spec = dict[str, Any]
SCORE = "$score"  # stands for the name of the score that is shown
LEGEND = "$legend"  # stands for the legend of the methods, which the page has above its plots
HEIGHT = 260
BARS = "Bars: 95% intervals, of what was chosen where rows are many."
_NUMBER = ".4~g"
_TEXTS = ("name", "test", "verdict", "than", "category", "status")


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        id: its name in files and links.
        title, caption: what it shows, and how to read it.
        dataset: the records it is drawn from.
        spec: Vega-Lite, without data and configuration.
        has_data: tells whether there is anything to draw.
        wide: takes the page's whole width.
    """

    id: str
    title: str
    caption: str
    dataset: str
    spec: Spec
    has_data: Callable[[Records], bool]
    wide: bool = False


def height_of(spec: Spec, records: Records) -> int:
    """Returns the height of a plot: fixed, or `step` for each of the things that `by` tells apart."""
    by = spec.get("usermeta")
    if by is None:
        return HEIGHT
    return int(by["step"]) * max(1, len({tuple(record.get(field) for field in by["by"]) for record in records}))


def filled(plot: Plot, score: str, *, legend: bool) -> Spec:
    """Returns the specification with the score's name in its titles, and with or without a legend."""
    text = json.dumps(plot.spec).replace(json.dumps(SCORE), json.dumps(score))
    spec: Spec = json.loads(text.replace(json.dumps(LEGEND), "{}" if legend else "null"))
    return spec


def config(theme: Theme) -> Spec:
    """Returns Vega-Lite's configuration: fonts and colours."""
    text = {"labelColor": theme.quiet, "titleColor": theme.ink, "labelFontSize": 11, "titleFontSize": 12}
    return {
        "background": theme.ground,
        "font": "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif",
        "view": {"stroke": None},
        "axis": {
            **text, "titleFontWeight": 500, "gridColor": theme.line, "domainColor": theme.line,
            "tickColor": theme.line, "labelLimit": 320, "titlePadding": 8,
        },
        "legend": {**text, "symbolStrokeWidth": 2, "labelLimit": 240},
        "text": {"color": theme.ink, "fontSize": 11},
        "rule": {"color": theme.quiet},
    }  # fmt: skip


def look(looks: Mapping[str, Look]) -> Spec:
    """Returns the encoding of a method by colour and shape."""
    domain = list(looks)
    return {
        "color": {
            "field": "label", "type": "nominal", "title": None, "legend": LEGEND,
            "scale": {"domain": domain, "range": [looks[one].colour for one in domain]},
        },
        "shape": {
            "field": "label", "type": "nominal", "title": None, "legend": LEGEND,
            "scale": {"domain": domain, "range": [looks[one].shape for one in domain]},
        },
    }  # fmt: skip


def tooltip(*fields: str) -> list[Spec]:
    """Returns what is shown beside a mark: its row's name and these fields."""
    titles = {"score": SCORE, "low": "95% from", "high": "to"}
    tips = []
    for name in ("name", *fields):
        tip = {"field": name, "title": titles.get(name, name.replace("_", " "))}
        tips.append(tip if name in _TEXTS else tip | {"type": "quantitative", "format": _NUMBER})
    return tips


def score_axis(**extra: Any) -> Spec:
    """Returns the encoding of the score."""
    return {"field": "score", "type": "quantitative", "title": SCORE, "scale": {"zero": False}, **extra}


def count(rows: Records, field: str) -> int:
    """Returns how many values a field has among scored rows."""
    return len({row[field] for row in rows if field in row and row["kind"] != "base" and "score" in row})
