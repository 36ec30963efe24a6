"""What the cells that are left will take, from what cells like them took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from peft_eval.checkpoint.manifest import Manifest
from peft_eval.errors import PeftEvalError
from peft_eval.study.cells import Cell
from peft_eval.study.store import CellFolder

MEASURED_STEPS = 3


class _Took(NamedTuple):
    seconds_per_step: float
    seconds_beside: float
    steps_per_epoch: float


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Attributes:
        seconds: of training, one after another, for the cells that could be estimated.
        unknown: labels of methods of which no cell was measured yet.
    """

    seconds: float
    unknown: tuple[str, ...]


def estimate(left: Sequence[Cell], measured: Iterable[CellFolder]) -> Cost:
    """Estimates the time that cells take from measured cells of the same method, base and data.

    Args:
        left: the cells to come.
        measured: folders of cells that may be done.
    """
    took: dict[str, list[_Took]] = {}
    for folder in measured:
        if folder.trained and (one := _took(folder)):
            took.setdefault(folder.cell.label, []).append(one)
    seconds, unknown = 0.0, []
    for cell in left:
        known = took.get(cell.label)
        if not known:
            unknown.append(cell.label)
            continue
        steps = cell.spec.max_steps or (cell.spec.epochs or 0) * median(one.steps_per_epoch for one in known)
        seconds += steps * median(one.seconds_per_step for one in known)
        seconds += median(one.seconds_beside for one in known)
    return Cost(seconds, tuple(dict.fromkeys(unknown)))


def to_measure(cells: Sequence[Cell]) -> list[Cell]:
    """Returns a cell of a few steps for each method label, in place of the first cell of it."""
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.label, cell)
    return [cell.at(max_steps=MEASURED_STEPS, epochs=None) for cell in first.values()]


def _took(folder: CellFolder) -> _Took | None:
    try:
        training = Manifest.read(folder.checkpoint).training
    except PeftEvalError:
        return None
    if training is None or not training.steps or not training.epochs:
        return None
    beside = max(0.0, folder.state().seconds - training.seconds)
    return _Took(training.seconds / training.steps, beside, training.steps / training.epochs)
