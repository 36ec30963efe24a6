"""Reads what lm-eval wrote of a run: the table's numbers, and of each question its scores."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from peft_eval.errors import DataError

_DATE = re.compile(r"_(\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?)$")
_REMEDY = "run lm_eval with --output_path DIR --log_samples"


@dataclass(frozen=True)
class Run:
    """One run of lm-eval.

    Attributes:
        name: how to call it: the checkpoint, else the model.
        folder: where its files are.
        table: the results file, as lm-eval wrote it.
        files: each task's file of samples.
    """

    name: str
    folder: Path
    table: Mapping[str, Any]
    files: Mapping[str, Path] = field(repr=False)

    @cached_property
    def scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Scores by task, metric (`exact_match,none`: the metric and lm-eval's filter) and question."""
        return {task: _scores(path) for task, path in self.files.items()}

    def tasks_of(self, group: str) -> list[str]:
        """Returns the tasks with samples in a group, those of groups within it included; of a task, itself."""
        below = self.table.get("group_subtasks", {}).get(group)
        if not below:
            return [group] if group in self.files else []
        return list(dict.fromkeys(task for name in below for task in self.tasks_of(name)))

    @property
    def groups(self) -> list[str]:
        """The groups that the table has a row of, outermost first."""
        return [group for group in self.table.get("groups", {}) if self.tasks_of(group)]

    def reported(self, name: str, metric: str) -> float | None:
        """Returns the table's number, None where the table has none."""
        rows = {**self.table.get("results", {}), **self.table.get("groups", {})}
        value = rows.get(name, {}).get(metric)
        return float(value) if isinstance(value, int | float) else None

    def higher_is_better(self, task: str, metric: str) -> bool:
        """Tells which way is better; lm-eval's word where it has one, else up."""
        said = self.table.get("higher_is_better", {}).get(task, {}).get(metric.split(",")[0])
        return said is not False


def read_run(path: Path) -> Run:
    """Opens a run.

    Args:
        path: a results file; or a folder of them, of which the newest counts; or lm-eval's `--output_path`, if the
            runs of one model alone are in it.

    Raises:
        DataError: there is no such run, there are several models' runs, or its files are broken.
    """
    file = path if path.is_file() else _newest(path)
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        tasks = {*table["results"], *table["configs"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"not a results file of lm-eval: {error!r}", place=str(file)) from error
    date = file.stem.removeprefix("results_")
    files = {task: file.with_name(f"samples_{task}_{date}.jsonl") for task in sorted(tasks)}
    files = {task: path for task, path in files.items() if path.is_file()}
    if not files:
        raise DataError("no samples were kept", place=str(file), remedy=_REMEDY)
    return Run(_name(table, file), file.parent, table, files)


def _newest(folder: Path) -> Path:
    found = [file for file in folder.rglob("results_*.json") if _DATE.search(file.stem)]
    if not found:
        raise DataError("no results of lm-eval are here", place=str(folder), remedy=_REMEDY)
    homes = sorted({file.parent for file in found})
    if len(homes) > 1:
        listed = ", ".join(str(home.relative_to(folder)) for home in homes[:4]) + (", ..." if len(homes) > 4 else "")
        raise DataError(f"runs of {len(homes)} models are here: {listed}", place=str(folder), remedy="name one")
    return max(found, key=lambda file: file.stem)


def _name(table: Mapping[str, Any], file: Path) -> str:
    """Returns what was evaluated: the checkpoint, else the weights, else the kind of model, as `copy-demo`."""
    config = table.get("config") or {}
    record, arguments = config.get("peft_eval") or {}, config.get("model_args") or {}
    weights = arguments.get("pretrained") if isinstance(arguments, dict) else None
    return str(record.get("checkpoint") or weights or config.get("model") or file.parent.name)


def _scores(path: Path) -> dict[str, dict[str, float]]:
    """Returns scores by metric and question; a question is known by its content, equal ones by their order too."""
    found: dict[str, dict[str, float]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for place, sample in lines_of(path):
        try:
            filter_name, content = sample["filter"], str(sample["doc_hash"])
            values = {name: sample[name] for name in sample["metrics"]}
        except (KeyError, TypeError) as error:
            raise DataError(f"not a sample of lm-eval: {error!r}", place=place) from error
        seen[filter_name, content] += 1
        question = f"{content}#{seen[filter_name, content]}"
        for metric, value in values.items():
            if isinstance(value, bool | int | float):  # the others are parts of a corpus's score
                found.setdefault(f"{metric},{filter_name}", {})[question] = float(value)
    return found


def lines_of(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields each line of a JSON-lines file with its place, `file:line`.

    Raises:
        DataError: a line is no JSON.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            place = f"{path}:{number}"
            try:
                yield place, json.loads(line)
            except ValueError as error:
                raise DataError("a line is cut or no JSON", place=place) from error
