"""What the axes of a row mean for a plot: its learning rate, its size, its number of tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from peft_eval.report.rows import Row, short
from peft_eval.training.spec import spec_fields

RATE = "learning_rate"


def rate_of(row: Row) -> float | None:
    """Returns the learning rate, from the manifest where it is no axis."""
    value = row.first.coordinates.get(RATE, row.first.settings.get(RATE))
    manifest = row.first.manifest
    if value is None and manifest and manifest.training:
        value = manifest.training.spec.get(RATE)
    return float(value) if isinstance(value, Real) else None


def setting_of(row: Row) -> str:
    """Returns the label with every coordinate but the learning rate, `lora rank=8`."""
    others = (f"{axis}={short(value)}" for axis, value in row.first.coordinates.items() if axis != RATE)
    return " ".join([row.label, *others])


def size_axes(rows: Iterable[Row]) -> dict[str, str]:
    """Returns for each method label the axis of its own that says how large it is: the numeric one that varies most."""
    values: dict[str, dict[str, set[Any]]] = {}
    for row in rows:
        for axis, value in row.first.coordinates.items():
            if axis not in spec_fields() and isinstance(value, Real):
                values.setdefault(row.label, {}).setdefault(axis, set()).add(value)
    return {label: max(own, key=lambda axis: len(own[axis])) for label, own in values.items()}


def shared_axes(rows: Sequence[Row]) -> list[str]:
    """Returns the axes that are settings of any run, as `learning_rate` and `tasks`: each is a column of the table."""
    found = (axis for row in rows for axis in row.first.coordinates if axis in spec_fields())
    return list(dict.fromkeys(found))


def own_settings(row: Row) -> Mapping[str, Any]:
    """Returns the coordinates that only this row's method has."""
    return {axis: value for axis, value in row.first.coordinates.items() if axis not in spec_fields()}
