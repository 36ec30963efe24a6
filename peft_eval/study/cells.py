"""From a study file to its cells: the runs, each known by what its result depends on."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

from peft_eval import plugins
from peft_eval.data.source import Selection
from peft_eval.errors import ConfigError, PeftEvalError, first_few, raise_all, unknown_name
from peft_eval.study.file import MOST_CELLS, StudyFile
from peft_eval.training.resolve import resolve
from peft_eval.training.spec import TrainSpec, spec_fields

Item = TypeVar("Item")
_NOT_SET = "study"  # `output` of a spec that has no folder yet: where a cell goes follows from its id


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        label: the method's label in the study.
        coordinates: its value on every axis.
        spec: the run's settings; `output` is to be set by whoever runs it.
        inputs: hashes of the base's weights and of the data, as far as they can be known before the run.
    """

    label: str
    coordinates: Mapping[str, Any]
    spec: TrainSpec
    inputs: Mapping[str, str | None]

    @cached_property
    def id(self) -> str:
        """Hex digits that are equal for equal runs, whatever study they are in."""
        decisive = {**self.spec.decisive(), **self.inputs}
        if self._takes_all_tasks:
            decisive["tasks"] = None
        text = json.dumps(decisive, sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def _takes_all_tasks(self) -> bool:
        """Whether its number of tasks is that of all there are, so that naming none gives the same examples."""
        mine, spec = self.inputs["data content"], self.spec
        if spec.tasks is None or mine is None:
            return False
        return mine == _data_sha256(spec.data, None, spec.instances_per_task, spec.encoding, spec.data_seed)

    @property
    def name(self) -> str:
        """How to call it in a table: `lora rank=8 seed=42`."""
        return " ".join([self.label, *(f"{axis}={_short(value)}" for axis, value in self.coordinates.items())])

    @property
    def place(self) -> dict[str, Any]:
        """Its value on every axis but the seed: what the runs of one arm share."""
        return {axis: value for axis, value in self.coordinates.items() if axis != "seed"}

    def at(self, **coordinates: Any) -> Cell:
        """Returns the cell with other values on some axes."""
        flat = {**self.spec.flat(), **coordinates}
        spec = resolve({key: (value, key) for key, value in flat.items()})
        return Cell(self.label, {**self.coordinates, **coordinates}, spec, self.inputs)


def cells_of(study: StudyFile, *, most: int | None = MOST_CELLS) -> list[Cell]:
    """Returns every cell of a study's grid, in the file's order; the seeds that a rule adds later are not among them.

    Args:
        study: the study.
        most: refuse more cells than this; None for any number.

    Raises:
        ConfigError, ManyErrors: settings that do not exist or do not fit, all at once; a grid that is too large.
    """
    grids = [_grid(study, label, settings) for label, settings in study.methods.items()]
    count = sum(math.prod(len(values) for values in grid.axes.values()) for grid in grids)
    if most is not None and count > most:
        raise ConfigError(
            f"the grid has {count:,} cells, more than {most:,}",
            place=study.name,
            remedy="take values out of its axes, or pass --insist",
        )
    raise_all(_misfits(grids))
    cells: dict[str, Cell] = {}
    for grid in grids:
        for point in grid.points():
            spec = resolve({key: (value, key) for key, value in {**grid.fixed, **point}.items()})
            cell = Cell(grid.label, point, spec, inputs_of(spec))
            cells.setdefault(cell.id, cell)
    return list(cells.values())


@dataclass(frozen=True)
class _Grid:
    """The runs of one method: what all share, and the axes."""

    label: str
    fixed: dict[str, Any]
    axes: dict[str, Sequence[Any]]

    def points(self) -> Iterator[dict[str, Any]]:
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))


def _grid(study: StudyFile, label: str, settings: Mapping[str, Any]) -> _Grid:
    own = dict(settings)
    method = plugins.pick("method", own.pop("method", label), plugins.methods(), place=f"methods.{label}")
    axes: dict[str, Sequence[Any]] = {axis: values for axis, values in study.axes.items() if axis not in own}
    if study.choose:
        axes["seed"] = study.choose.seeds[:1]
    fixed = {**study.train, "method": method.name, "output": _NOT_SET}
    for key, value in own.items():
        if _is_axis(method.options, key, value):
            axes[key] = value
        else:
            fixed[key] = value
    return _Grid(label, fixed, axes)


def _is_axis(options: Any, key: str, value: Any) -> bool:
    """Tells whether a value stands for several: a list, or, where the setting is a list itself, a list of those."""
    if not isinstance(value, list):
        return False
    field = spec_fields().get(key) or options.model_fields.get(key)
    if field is None:
        return True
    takes_lists = any(
        typing.get_origin(part) is list for part in (field.annotation, *typing.get_args(field.annotation))
    )
    return bool(value) and isinstance(value[0], list) if takes_lists else True


def _misfits(grids: Iterable[_Grid]) -> list[PeftEvalError]:
    """Finds what is wrong by trying each value of each axis once, the other axes at their first value."""
    found: dict[str, PeftEvalError] = {}
    for grid in grids:
        place = f"methods.{grid.label}"
        if empty := [axis for axis, values in grid.axes.items() if not values]:
            error = ConfigError(f"no values for {', '.join(empty)}: the grid is empty", place=place)
            found[str(error)] = error
            continue
        known = {*spec_fields(), *plugins.methods()[grid.fixed["method"]].options.model_fields}
        unknown = [key for key in (*grid.fixed, *grid.axes) if key not in known]
        for key in unknown:
            wrong = _unknown(key, grid, known)
            found.setdefault(str(wrong), wrong)
        if unknown:
            continue
        first = {axis: values[0] for axis, values in grid.axes.items()}
        for axis, values in grid.axes.items() or [("", [None])]:
            for value in values:
                settings = {**grid.fixed, **first, **({axis: value} if axis else {})}
                try:
                    resolve({key: (one, f"{place}: {key}") for key, one in settings.items()})
                except PeftEvalError as error:
                    for one in getattr(error, "errors", [error]):
                        found.setdefault(str(one), one)
    return list(found.values())


def _unknown(key: str, grid: _Grid, known: set[str]) -> PeftEvalError:
    owners = [name for name, method in plugins.methods().items() if key in method.options.model_fields]
    if not owners:
        return unknown_name("axis" if key in grid.axes else "setting", key, known, place=f"methods.{grid.label}")
    return ConfigError(
        f"method {grid.fixed['method']} has no {key!r}",
        place=f"methods.{grid.label}",
        remedy=f"put it under [methods.NAME] of {first_few(owners)}",
    )


def alike(items: Iterable[Item], setting: Callable[[Item], Sequence[Any]]) -> list[list[Item]]:
    """Returns items of equal settings together, in the order in which the first of each comes."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(json.dumps(setting(item), sort_keys=True, default=str), []).append(item)
    return list(groups.values())


def inputs_of(spec: TrainSpec) -> dict[str, str | None]:
    """Returns hashes of the base's weights and of the data that a spec names, None for what is on a hub.

    Raises:
        PeftEvalError: the base or the data is missing or broken.
    """
    return {
        "base weights": _base_sha256(spec.base, spec.base_revision),
        "data content": _data_sha256(spec.data, spec.tasks, spec.instances_per_task, spec.encoding, spec.data_seed),
    }


@lru_cache
def _base_sha256(base: str, revision: str | None) -> str | None:
    """Returns the hash over a local base's weights; a hub's id and revision say it themselves, without a download."""
    from peft_eval.checkpoint.hashing import weights_sha256
    from peft_eval.checkpoint.location import is_local, resolve_folder

    return weights_sha256(resolve_folder(base, revision=revision)) if is_local(base) else None


@lru_cache(maxsize=256)
def _data_sha256(data: str, tasks: int | None, instances: int | None, encoding: str, seed: int) -> str | None:
    name, _, location = data.partition(":")
    if location and not Path(location).expanduser().exists():
        return None  # data of the hub: fetched by the run
    source = plugins.pick("data source", name, plugins.datasets(), place="data")
    selection = Selection(tasks=tasks, instances_per_task=instances, encoding=encoding, seed=seed)
    return str(source.load(location or None, selection).content_sha256)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
