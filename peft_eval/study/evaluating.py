"""Asks trained checkpoints, and their base, a study's suites: one engine for all checkpoints of a base.

What was asked stays in the store under the way of asking (backend, its arguments, limits), so that another study, or a
later run of this one, asks only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peft_eval.errors import DataError, PeftEvalError
from peft_eval.study.file import Evaluate
from peft_eval.study.local import execute
from peft_eval.study.results import Run, read_run


class Evaluations:
    """What checkpoints scored, asked in one way.

    Args:
        store: the folder of all cells.
        how: backend, arguments, limit.
        execute: runs a command, with a log, and returns its exit code.
    """

    def __init__(self, store: Path, how: Evaluate, execute: Callable[[Sequence[str], Path], int] = execute):
        self.how = how
        self.execute = execute
        text = json.dumps(how.model_dump(exclude={"suites", "curve"}), sort_keys=True)
        self.folder = store / "evaluations" / hashlib.sha256(text.encode()).hexdigest()[:12]
        self._runs: dict[Path, Run] = {}
        self._found: dict[str, list[Run]] | None = None

    def runs(self) -> dict[str, list[Run]]:
        """Returns every run by what was evaluated (a folder: its resolved path), the newest last; looked for once."""
        if self._found is None:
            self._found = self._look()
        return self._found

    def _look(self) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {}
        for file in sorted(self.folder.rglob("results_*.json"), key=lambda file: file.stem):
            if file not in self._runs:
                try:
                    self._runs[file] = read_run(file)
                except DataError:
                    continue  # cut short: it is asked again
            found.setdefault(place_of(self._runs[file].name), []).append(self._runs[file])
        return found

    def missing(self, references: Iterable[str], suites: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
        """Returns which checkpoints lack which suites, by the suites that they lack."""
        self._found = None  # another process may have asked since
        runs = self.runs()
        lacking: dict[tuple[str, ...], list[str]] = {}
        for reference in references:
            asked = {suite for run in runs.get(place_of(reference), ()) for suite in suites if run.tasks_of(suite)}
            left = tuple(suite for suite in suites if suite not in asked)
            if left:
                lacking.setdefault(left, []).append(reference)
        return lacking

    def ask(self, checkpoints: Sequence[str], suites: Sequence[str], log: Path, *, with_base: bool) -> None:
        """Evaluates checkpoints, in a process of its own.

        Args:
            checkpoints: their folders.
            suites: lm-eval tasks and groups.
            log: file that the process writes to.
            with_base: evaluate the base as well.

        Raises:
            PeftEvalError: some could not be evaluated; the log says which and why.
        """
        command = [sys.executable, "-m", "peft_eval.cli.main", "eval", "--tasks", ",".join(suites)]
        command += ["--model", self.how.model, "--output", str(self.folder), "--base" if with_base else "--no-base"]
        command += [word for one in checkpoints for word in ("--checkpoint", one)]
        command += _pairs("--model-args", self.how.model_args) + _pairs("--metadata", self.how.metadata)
        command += ["--log_samples", *([] if self.how.limit is None else ["--limit", str(self.how.limit)])]
        code = self.execute(command, log)
        self._found = None
        if code:
            raise PeftEvalError(
                f"evaluation ended with exit code {code}: {_last_error(log)}",
                place=str(log),
                remedy="what was answered is kept; run the study again to ask the rest",
            )

    def score(self, reference: str, suite: str, metric: str) -> float | None:
        """Returns a score as lm-eval's table has it, None if it was not asked or has no such metric."""
        run = self.run(reference, suite)
        if run is None:
            return None
        values = (run.reported(suite, name) for name in (metric, f"{metric},none"))
        return next((value for value in values if value is not None), None)

    def run(self, reference: str, suite: str) -> Run | None:
        """Returns the newest run of a suite, None if there is none."""
        return next((run for run in reversed(self.runs().get(place_of(reference), [])) if run.tasks_of(suite)), None)


def place_of(reference: str) -> str:
    """Returns the name that runs of a reference are kept under: a folder's resolved path, else the reference."""
    return str(Path(reference).resolve()) if Path(reference).is_dir() else reference


def _pairs(option: str, values: Mapping[str, Any]) -> list[str]:
    return [word for key, value in values.items() for word in (option, f"{key}={value}")]


def _last_error(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = [line for line in lines[-50:] if "error" in line.lower()]
    return (said or lines or ["no output"])[-1][:300]
