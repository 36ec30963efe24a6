"""The entries of a study: its bases, its cells as far as they are, and what its rule chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peft_eval import plugins
from peft_eval.checkpoint.manifest import Manifest
from peft_eval.report.entry import Entry
from peft_eval.report.steps import Steps, runs_on_the_way
from peft_eval.study.cells import Cell
from peft_eval.study.claims import Finding, findings
from peft_eval.study.evaluating import place_of
from peft_eval.study.outcomes import Outcomes
from peft_eval.study.results import Run
from peft_eval.study.study import Study


def entries_of_study(study: Study) -> list[Entry]:
    """Returns a study's entries: the bases first, then the cells in the file's order.

    Raises:
        PeftEvalError: a cell's state or manifest is broken.
    """
    runs = study.evaluations.runs()
    cells = study.cells()
    chosen, steps = _chosen(study), runs_on_the_way(runs)
    bases = [
        Entry(base, "base", "base", base, runs=tuple(runs.get(place_of(base), ())))
        for base in dict.fromkeys(cell.spec.base for cell in cells)
    ]
    return bases + [_entry(study, cell, runs, steps, chosen) for cell in cells]


def suites_of_study(study: Study) -> list[str]:
    """Returns the suites that a study reports, then the one that its rule chooses by."""
    return [*study.file.evaluate.suites, *([study.file.choose.by] if study.file.choose else [])]


def claims_of_study(study: Study) -> list[Finding]:
    """Returns the papers' claims that the study asks about, with what its results say."""
    return [one for one in findings([Outcomes(study)]) if one.study == study.file.name]


def _entry(
    study: Study,
    cell: Cell,
    runs: Mapping[str, Sequence[Run]],
    steps: Mapping[str, Steps],
    chosen: set[tuple[Any, ...]] | None,
) -> Entry:
    folder = study.folder_of(cell)
    state = folder.state()
    reference = place_of(str(folder.checkpoint))
    return Entry(
        name=cell.name,
        label=cell.label,
        kind=plugins.methods()[cell.spec.method].kind,
        base=cell.spec.base,
        coordinates=cell.place,
        seed=cell.spec.seed,
        status=state.status,
        reason=state.reason,
        log=folder.log.relative_to(folder.folder.parent) if folder.log.is_file() else None,
        chosen=None if chosen is None else _without_seed(cell) in chosen,
        settings={"cell": cell.id, **cell.spec.flat()},
        manifest=Manifest.read(folder.checkpoint) if folder.trained else None,
        runs=tuple(runs.get(reference, ())),
        steps=steps.get(reference, {}),
    )


def _chosen(study: Study) -> set[tuple[Any, ...]] | None:
    """Returns what the rule chose, seeds aside; None where there is no rule or it has not decided."""
    found = {_without_seed(choice.chosen) for choice in study.choices() if choice.chosen}
    return found or None


def _without_seed(cell: Cell) -> tuple[Any, ...]:
    return (cell.label, *((axis, str(value)) for axis, value in cell.place.items()))
