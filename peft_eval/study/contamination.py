"""Which questions of a study's suites its training data holds, and the scores without them.

Looked for once for each selection of training data, before any cell of it is trained, by `peft-eval overlap`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from peft_eval.checkpoint.manifest import OverlapRecord
from peft_eval.study.local import execute
from peft_eval.study.results import Run
from peft_eval.training.spec import TrainSpec

_Found = TypeAdapter(dict[str, OverlapRecord])
_SELECTION = ("data", "tasks", "instances_per_task", "encoding", "data_seed")


@dataclass(frozen=True)
class Overlaps:
    """What the training data of a study's cells holds of its suites.

    Attributes:
        folder: where it is kept.
        suites: lm-eval tasks and groups.
        metadata: where they find their data, pairs `KEY=VALUE`.
    """

    folder: Path
    suites: tuple[str, ...]
    metadata: tuple[str, ...]

    def file_of(self, spec: TrainSpec) -> Path:
        """Returns where what was found of a run's data is kept."""
        text = json.dumps([self.suites, self.metadata, self._selection(spec)])
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"

    def of(self, spec: TrainSpec) -> dict[str, OverlapRecord]:
        """Returns what was found of a run's data by lm-eval task, empty if it was not looked for."""
        return self._found(spec) or {}

    def is_known(self, spec: TrainSpec) -> bool:
        """Tells whether a run's overlap was looked for and all that was found can be read."""
        return self._found(spec) is not None

    def _found(self, spec: TrainSpec) -> dict[str, OverlapRecord] | None:
        try:
            return _Found.validate_json(self.file_of(spec).read_bytes())
        except (OSError, ValueError):
            return None

    def look(self, spec: TrainSpec, log: Path) -> bool:
        """Looks for a run's overlap, in a process of its own; tells whether that went well. The log says why not."""
        command = [sys.executable, "-m", "peft_eval.cli.main", "overlap", "--suites", ",".join(self.suites)]
        for name, value in self._selection(spec).items():
            command += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
        command += [word for pair in self.metadata for word in ("--metadata", pair)]
        return execute([*command, "--output", str(self.file_of(spec))], log) == 0

    @staticmethod
    def _selection(spec: TrainSpec) -> dict[str, Any]:
        return {name: getattr(spec, name) for name in _SELECTION}


def score_without(run: Run, suite: str, metric: str, overlap: Mapping[str, OverlapRecord]) -> float | None:
    """Returns a suite's score over the questions that the training data does not hold.

    Args:
        run: a run with samples.
        suite: a task or group.
        metric: lm-eval's metric and filter, `rougeL,none`.
        overlap: what was found, by lm-eval task.

    Returns:
        The score, in the way that lm-eval's own is made of tasks and questions; None if it is no mean over questions.
    """
    import numpy as np

    from peft_eval.study.comparing import is_macro

    macro = is_macro(run, suite, metric)
    if macro is None:
        return None
    tasks: list[Sequence[float]] = []
    for task in run.tasks_of(suite):
        held = set(overlap[task].overlapping) if task in overlap else set()
        scores = run.scores[task][metric]
        tasks.append([score for question, score in scores.items() if question.partition("#")[0] not in held])
    left = [np.mean(scores) for scores in tasks if scores] if macro else [one for scores in tasks for one in scores]
    return float(np.mean(left)) if left else None


def overlapping(suite: str, run: Run, overlap: Mapping[str, OverlapRecord]) -> tuple[int, int]:
    """Returns how many questions of a suite the training data holds, and how many were looked at."""
    records = [overlap[task] for task in run.tasks_of(suite) if task in overlap]
    return sum(len(record.overlapping) for record in records), sum(record.questions for record in records)
