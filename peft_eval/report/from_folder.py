"""The entries of a folder: everything that lm-eval wrote below it, with the manifests that still exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.location import is_local, resolve_folder
from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest
from peft_eval.errors import DataError
from peft_eval.report.entry import Entry, Kind
from peft_eval.report.steps import is_on_the_way, runs_on_the_way
from peft_eval.study.results import Run, read_run

# Settings that are not what is compared.
_NO_AXES = ("base", "base_revision", "method", "data", "output", "seed")


def runs_below(folder: Path) -> dict[str, list[Run]]:
    """Returns the runs below a folder by what was evaluated, the newest last.

    Raises:
        DataError: there is none, or none kept its samples.
    """
    found: dict[str, list[Run]] = {}
    problems = []
    for file in sorted(folder.rglob("results_*.json"), key=lambda file: file.stem):
        try:
            run = read_run(file)
        except DataError as error:
            problems.append(error)
            continue
        found.setdefault(run.name, []).append(run)
    if not found:
        if problems:
            raise problems[0]
        raise DataError(
            "no results of lm-eval are here",
            place=str(folder),
            remedy="run lm_eval with --output_path DIR --log_samples, or name a study's file",
        )
    return found


def entries_of_runs(runs: Mapping[str, Sequence[Run]]) -> list[Entry]:
    """Returns an entry for each model: bases first, then by method."""
    records = {name: _record(own) for name, own in runs.items() if not is_on_the_way(name, runs)}
    manifests = {name: _manifest(record) for name, record in records.items()}
    steps = runs_on_the_way(runs)
    axes = _axes({name: one for name, one in manifests.items() if one is not None})
    entries = []
    for name, record in records.items():
        manifest = manifests[name]
        spec = manifest.training.spec if manifest and manifest.training else {}
        kind = _kind(record, manifest)
        label = str(record.get("method") or name) if kind in ("adapter", "full") else name
        entries.append(
            Entry(
                name=name,
                label="base" if kind == "base" else label,
                kind=kind,
                base=_base(name, kind, record, manifest),
                coordinates={axis: spec[axis] for axis in axes.get(label, ()) if axis in spec}
                or ({"checkpoint": name} if kind in ("adapter", "full") and not spec else {}),
                seed=spec.get("seed"),
                settings=spec,
                manifest=manifest,
                runs=tuple(runs[name]),
                steps=steps.get(name, {}),
            )
        )
    return sorted(entries, key=lambda entry: (entry.kind != "base", entry.kind != "full", entry.label))


def suites_of_runs(runs: Iterable[Run]) -> list[str]:
    """Returns the groups of all runs that are in no other group, and the tasks outside of groups."""
    found: list[str] = []
    for run in runs:
        inner = {name for below in run.table.get("group_subtasks", {}).values() for name in below}
        groups = [group for group in run.groups if group not in inner]
        inside = {task for group in groups for task in run.tasks_of(group)}
        found += [*groups, *(task for task in run.files if task not in inside)]
    return list(dict.fromkeys(found))


def _record(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns what this package wrote into the newest results that have it."""
    config = [run.table.get("config") or {} for run in reversed(runs)]
    return next((one["peft_eval"] for one in config if one.get("peft_eval")), {})


def _manifest(record: Mapping[str, Any]) -> Manifest | None:
    """Reads the manifest of the checkpoint, if it is still there."""
    reference = record.get("checkpoint")
    if not reference or not is_local(reference):
        return None
    folder = resolve_folder(reference)
    return Manifest.read(folder) if (folder / MANIFEST_NAME).is_file() else None


def _kind(record: Mapping[str, Any], manifest: Manifest | None) -> Kind:
    if record.get("checkpoint"):
        return "full" if manifest and manifest.kind == "full" else "adapter"
    return "base" if record.get("route") == "base" else "other"


def _base(name: str, kind: Kind, record: Mapping[str, Any], manifest: Manifest | None) -> str:
    if kind == "base":
        return name
    return manifest.base.location if manifest else str(record.get("base") or "unknown")


def _axes(manifests: Mapping[str, Manifest]) -> dict[str, list[str]]:
    """Returns for each method the learning rate and the settings that vary in it or, shared by all, in another."""
    specs: dict[str, list[dict[str, Any]]] = {}
    for manifest in manifests.values():
        if manifest.training:
            specs.setdefault(manifest.method.name, []).append(manifest.training.spec)
    varying = {label: _varying(own) for label, own in specs.items()}
    shared = [key for key in dict.fromkeys(chain(*varying.values())) if all(key in own[0] for own in specs.values())]
    return {
        label: ["learning_rate", *(key for key in dict.fromkeys([*shared, *own]) if key != "learning_rate")]
        for label, own in varying.items()
    }


def _varying(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    kept: dict[tuple[int, ...], str] = {}
    for key in specs[0]:
        values = [str(spec.get(key)) for spec in specs]
        # A setting that follows another, as alpha does the rank, is no axis of its own.
        pattern = tuple(values.index(value) for value in values)
        if key not in _NO_AXES and len(set(values)) > 1:
            kept.setdefault(pattern, key)
    return list(kept.values())
