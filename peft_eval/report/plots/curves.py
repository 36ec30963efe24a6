"""Courses over the steps of training."""

from __future__ import annotations

from collections.abc import Mapping

from peft_eval.report.palette import Look
from peft_eval.report.plots.plot import SCORE, Plot, Spec, look, tooltip


def losses(looks: Mapping[str, Look]) -> Plot:
    """The training loss of each run."""
    return _curves(looks, "curves", "loss", "Training loss", {"title": "loss"})


def scores_on_the_way(looks: Mapping[str, Look]) -> Plot:
    """The score of each run's checkpoints on the way."""
    return _curves(looks, "way", "score", "Score on the way", {"title": SCORE})


def _curves(looks: Mapping[str, Look], dataset: str, field: str, title: str, axis: Spec) -> Plot:
    return Plot(
        f"curve_{field}",
        title,
        "A line for each run.",
        dataset,
        {
            "mark": {"type": "line", "strokeWidth": 1.2, "opacity": 0.7, "point": dataset == "way" and {"size": 14}},
            "encoding": {
                "x": {"field": "step", "type": "quantitative"},
                "y": {"field": field, "type": "quantitative", "scale": {"zero": False}, **axis},
                "color": look(looks)["color"],
                "detail": [{"field": "curve"}],
                "tooltip": tooltip("seed", "step", field),
            },
        },
        lambda records: len(records) > 1,
    )
