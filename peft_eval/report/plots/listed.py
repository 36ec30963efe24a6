"""Which plots a report has."""

from __future__ import annotations

from collections.abc import Mapping

from peft_eval.report.palette import Look
from peft_eval.report.plots.against import along, memorization, pareto
from peft_eval.report.plots.curves import losses, scores_on_the_way
from peft_eval.report.plots.grids import categories, heat_map, pairs
from peft_eval.report.plots.plot import Plot


def plots_of(looks: Mapping[str, Look], memory: str | None) -> list[Plot]:
    """Returns all plots.

    Args:
        looks: colour and shape of each label.
        memory: what the score of the memorization suite is called; None without one.
    """
    costs = [
        ("trainable", "trainable parameters"),
        ("memory", "peak memory in training, bytes"),
        ("seconds", "training time, seconds"),
        ("bytes", "checkpoint size, bytes"),
    ]
    found = [pareto(looks, field, title) for field, title in costs]
    found += [
        heat_map(),
        along(looks, "rate", "learning rate", "Score at each learning rate", by="setting"),
        along(looks, "size", "size (rank, bottleneck width, virtual tokens ...)", "Score against size"),
        along(looks, "tasks", "training tasks", "Score against the number of tasks"),
        along(looks, "base_parameters", "parameters of the base", "Score against the base's size"),
        losses(looks),
        scores_on_the_way(looks),
        categories(looks),
        pairs(),
    ]
    if memory:
        found.append(memorization(looks, memory))
    return found
