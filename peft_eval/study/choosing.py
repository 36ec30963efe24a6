"""The rule of a study: which value of an axis is best for each group of cells that differ in it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peft_eval.study.cells import Cell, alike
from peft_eval.study.file import Choose


@dataclass(frozen=True)
class Choice:
    """What was chosen for one group.

    Attributes:
        chosen: the cell with the best score; None where no cell of the group has one.
        scores: every cell of the group with its score, None where it failed or diverged.
    """

    chosen: Cell | None
    scores: tuple[tuple[Cell, float | None], ...]


def choose(cells: Sequence[Cell], rule: Choose, score_of: Callable[[Cell], float | None]) -> list[Choice]:
    """Returns a choice for each group of cells; of equal scores the first value in the file wins.

    Args:
        cells: the grid, of the first seed.
        rule: the axis, and which score is better.
        score_of: a cell's score in the suite that decides.
    """
    choices = []
    for group in alike(cells, lambda cell: (cell.label, {**cell.coordinates, rule.axis: None})):
        scores = tuple((cell, score_of(cell)) for cell in group)
        known = [(cell, score) for cell, score in scores if score is not None]
        best = (max if rule.higher_is_better else min)(known, key=lambda pair: pair[1], default=None)
        choices.append(Choice(best[0] if best else None, scores))
    return choices


def repeated(choices: Sequence[Choice], rule: Choose) -> list[Cell]:
    """Returns the chosen cells with every other seed of the rule."""
    return [choice.chosen.at(seed=seed) for choice in choices if choice.chosen for seed in rule.seeds[1:]]
