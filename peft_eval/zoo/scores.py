"""`scores.json`: what a checkpoint scored, and on which questions, so that a part of it can be asked again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peft_eval.errors import CheckpointError, DataError
from peft_eval.study.results import read_run
from peft_eval.zoo.files import SCORES_NAME

_INTERVAL_95 = 1.959964  # standard errors to each side of a normal 95% interval
_FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Score(_Part):
    """A number of lm-eval's table with its standard error, None where lm-eval gives none."""

    value: float
    stderr: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95% interval."""
        return None if self.stderr is None else _INTERVAL_95 * self.stderr


class Questions(_Part):
    """A task's questions in the order of their numbers, and what each scored.

    Attributes:
        hashes: the beginning of lm-eval's hash of each question.
        scores: by metric, a number for each question.
    """

    hashes: list[str]
    scores: dict[str, list[float]]


class Scores(_Part):
    """What an evaluation gave.

    Attributes:
        suites: by suite or task, and metric.
        counts: how many questions each of them has.
        questions: by task.
        how: backend, route, precision, versions, date.
        command: what was run.
    """

    format_version: int = _FORMAT
    suites: dict[str, dict[str, Score]]
    counts: dict[str, int]
    questions: dict[str, Questions]
    how: dict[str, Any] = Field(default_factory=dict)
    command: str | None = None


def read_scores(folder: Path) -> Scores | None:
    """Reads a version's scores, None if it has none.

    Raises:
        CheckpointError: they are damaged.
    """
    path = folder / SCORES_NAME
    if not path.is_file():
        return None
    try:
        return Scores.model_validate(json.loads(path.read_bytes()))
    except (ValueError, RecursionError, ValidationError) as error:
        raise CheckpointError(f"not scores of a zoo: {error}".splitlines()[0], place=str(path)) from error


def summary_of(folder: Path) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Returns, by suite and metric, value and half the width of the 95% interval; empty without scores."""
    found = read_scores(folder)
    if found is None:
        return {}
    return {
        suite: {metric: (round(one.value, 4), _rounded(one.half_width)) for metric, one in scores.items()}
        for suite, scores in found.suites.items()
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def scores_of_run(results: Path, command: str | None = None) -> Scores:
    """Gathers the scores that lm-eval wrote with its samples.

    Args:
        results: a results file or folder, as `peft_eval.study.results.read_run` takes it.
        command: what was run.

    Raises:
        DataError: there are no results with samples, or of several models.
    """
    run = read_run(results)
    names = run.groups or sorted(run.files)
    rows = {**run.table.get("results", {}), **run.table.get("groups", {})}
    suites = {name: _table_row(rows.get(name, {})) for name in names}
    questions = {task: _questions(file) for task, file in sorted(run.files.items())}
    counts = {name: sum(len(questions[task].hashes) for task in run.tasks_of(name)) for name in names}
    if not any(suites.values()):
        raise DataError("the results hold no scores", place=str(run.folder))
    return Scores(suites=suites, counts=counts, questions=questions, how=_how(run.table), command=command)


def _table_row(row: Mapping[str, Any]) -> dict[str, Score]:
    found = {}
    for key, value in row.items():
        metric, _, filter_name = key.partition(",")
        if not filter_name or metric.endswith("_stderr") or not isinstance(value, int | float) or math.isnan(value):
            continue
        error = row.get(f"{metric}_stderr,{filter_name}")
        known = isinstance(error, int | float) and math.isfinite(error)
        found[metric if filter_name == "none" else key] = Score(value=value, stderr=error if known else None)
    return found


def _questions(file: Path) -> Questions:
    found = _samples(file)
    if sorted(found) != list(range(len(found))):
        raise DataError("not all questions of the task were asked", place=str(file), remedy="evaluate without --limit")
    ordered = [found[number] for number in range(len(found))]
    metrics = sorted({metric for _, values in ordered for metric in values})
    return Questions(
        hashes=[digest for digest, _ in ordered],
        scores={metric: [round(values[metric], 6) for _, values in ordered] for metric in metrics},
    )


def _samples(file: Path) -> dict[int, tuple[str, dict[str, float]]]:
    """Returns, by a question's number, the beginning of its hash, and its scores by metric."""
    found: dict[int, tuple[str, dict[str, float]]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            sample = json.loads(line)
            named = "" if sample["filter"] == "none" else f",{sample['filter']}"
            values = {
                f"{name}{named}": float(sample[name])
                for name in sample["metrics"]
                if isinstance(sample[name], bool | int | float)  # the others are parts of a corpus's score
            }
            before = found.get(sample["doc_id"], ("", {}))[1]
            found[sample["doc_id"]] = (str(sample["doc_hash"])[:8], before | values)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"not a sample of lm-eval: {error!r}", place=str(file)) from error
    return found


def scores_by_question(results: Path) -> dict[tuple[str, int], tuple[str, dict[str, float]]]:
    """Returns, by task and a question's number, the beginning of its hash, and its scores by metric."""
    run = read_run(results)
    return {(task, number): one for task, file in run.files.items() for number, one in _samples(file).items()}


def _how(table: Mapping[str, Any]) -> dict[str, Any]:
    config = table.get("config") or {}
    block, arguments = config.get("peft_eval") or {}, config.get("model_args")
    kept = ("route", "backend", "versions")
    dtype = arguments.get("dtype") if isinstance(arguments, dict) else None
    return {"model": config.get("model"), **{key: block.get(key) for key in kept}, "dtype": dtype}
