"""A study as a whole: its cells, how far they are, and running what is left."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from peft_eval.harness.suites import OF_TRAINING_DATA
from peft_eval.study.cells import Cell, cells_of
from peft_eval.study.choosing import Choice, choose, repeated
from peft_eval.study.contamination import Overlaps
from peft_eval.study.evaluating import Evaluations
from peft_eval.study.file import MOST_CELLS, StudyFile
from peft_eval.study.local import Task, train_cell
from peft_eval.study.store import CellFolder, State
from peft_eval.training.states import kept_checkpoints

Changed = Callable[[CellFolder, State], None]


class Runner(Protocol):
    """Runs cells: `LocalRunner`, `RayRunner`."""

    def run(self, folders: Sequence[CellFolder], changed: Changed) -> None:
        """Runs the cells that are not done, and tells of every new state."""

    def execute(self, command: Sequence[str], log: Path) -> int:
        """Runs a command, its output going to the end of a log, and returns its exit code."""


class Study:
    """A study and the store its cells are in.

    Args:
        file: the study.
        store: the folder of all cells, shared by studies.
        most: refuse grids of more cells; None for any.
    """

    def __init__(self, file: StudyFile, store: Path, *, most: int | None = MOST_CELLS):
        self.file = file
        self.store = store
        self.grid = cells_of(file, most=most)
        self.evaluations = Evaluations(store, file.evaluate)
        metadata = tuple(f"{key}={value}" for key, value in file.evaluate.metadata.items())
        self.overlaps = Overlaps(store / "overlap", tuple(file.evaluate.suites), metadata)

    def folder_of(self, cell: Cell) -> CellFolder:
        """Returns where a cell is kept."""
        return CellFolder(self.store, cell)

    def choices(self) -> list[Choice]:
        """Returns what the rule chooses from the scores there are; empty without a rule."""
        rule = self.file.choose
        if rule is None:
            return []
        return choose(
            self.grid,
            rule,
            lambda cell: self.evaluations.score(str(self.folder_of(cell).checkpoint), rule.by, rule.metric),
        )

    def cells(self) -> list[Cell]:
        """Returns the grid, and the further seeds of what was chosen once every cell that can be chosen has a score."""
        rule = self.file.choose
        if rule is None or not self._decided():
            return self.grid
        more = repeated(self.choices(), rule)
        return list({cell.id: cell for cell in [*self.grid, *more]}.values())

    def _decided(self) -> bool:
        """Tells whether the rule has all it needs: a score of each trained cell, and no cell left to train."""
        rule = self.file.choose
        if rule is None:
            return True
        for cell in self.grid:
            folder = self.folder_of(cell)
            state = folder.state()
            if state.status in ("pending", "running"):
                return False
            if state.status == "done" and self.evaluations.score(str(folder.checkpoint), rule.by, rule.metric) is None:
                return False
        return True

    @property
    def task(self) -> Task:
        """What a cell's process does."""
        return partial(train_cell, overlaps=self.overlaps)

    def run(
        self,
        runner: Runner,
        *,
        planned: Callable[[Sequence[Cell]], None],
        changed: Changed,
        say: Callable[[str], None],
        log: Path,
        limit: int | None = None,
    ) -> None:
        """Trains and evaluates what is left.

        Args:
            runner: runs cells and commands.
            planned: is told of the cells that come next: the grid, then what the rule adds.
            changed: is told of every new state of a cell.
            say: is given a line about each step.
            log: what the evaluations print.
            limit: train so many cells at most.

        Raises:
            PeftEvalError: an evaluation failed; what was trained and answered is kept.
        """
        rule, suites = self.file.choose, self.file.evaluate.suites
        self.evaluations.execute = runner.execute
        self._look_for_overlap(say, log)
        planned(self.grid)
        self._train(self.grid, runner, changed, limit)
        if rule is not None:
            self._ask(self.grid, [rule.by], say, log)
            if not self._decided():
                say("not every cell is done: the rule waits")
                return
            more = repeated(self.choices(), rule)
            planned(more)
            self._train(more, runner, changed, limit)
        self._ask(self._chosen(), suites, say, log)  # first what the study is about
        self._ask_on_the_way(say, log)
        self._ask(self.cells(), suites, say, log)

    def _look_for_overlap(self, say: Callable[[str], None], log: Path) -> None:
        """Finds out, once for each selection of training data, which questions of the suites it holds."""
        unknown = {self.overlaps.file_of(cell.spec): cell.spec for cell in self.grid}
        for file, spec in unknown.items():
            if not self.overlaps.is_known(spec):
                say(f"looking for questions that the training data holds: {file.name}")
                if not self.overlaps.look(spec, log):
                    say(f"note: overlap is not known, see {log}")

    def _train(self, cells: Sequence[Cell], runner: Runner, changed: Changed, limit: int | None) -> None:
        attempts = self.file.limits.attempts
        for _ in range(attempts):
            left = [folder for folder in map(self.folder_of, cells) if _is_to_run(folder.state(), attempts)]
            if left:
                runner.run(left[:limit], changed)

    def _ask(self, cells: Sequence[Cell], suites: Sequence[str], say: Callable[[str], None], log: Path) -> None:
        trained = [str(folder.checkpoint) for folder in map(self.folder_of, cells) if folder.trained]
        bases = list(dict.fromkeys(cell.spec.base for cell in cells if self.folder_of(cell).trained))
        of_bases = [suite for suite in suites if not suite.startswith(OF_TRAINING_DATA)]
        lacking = self.evaluations.missing(trained, suites)
        for left, lacks in self.evaluations.missing(bases, of_bases).items():
            lacking.setdefault(left, []).extend(lacks)
        for left, references in lacking.items():
            checkpoints = [one for one in references if one not in bases]
            bare = [one for one in references if one in bases]
            say(f"evaluating {len(references)} on {', '.join(left)}")
            # A base is a row beside its checkpoints; where they have their scores already, any of them brings it in.
            self.evaluations.ask(checkpoints or trained[:1], left, log, with_base=bool(bare))

    def _ask_on_the_way(self, say: Callable[[str], None], log: Path) -> None:
        kept = [
            str(one) for cell in self._chosen() for one in kept_checkpoints(self.folder_of(cell).checkpoint).values()
        ]
        for left, references in self.evaluations.missing(kept, self.file.evaluate.curve).items():
            say(f"evaluating {len(references)} checkpoints on the way on {', '.join(left)}")
            self.evaluations.ask(references, left, log, with_base=False)

    def _chosen(self) -> list[Cell]:
        """Returns what the rule chose, with every seed; all cells without a rule."""
        rule = self.file.choose
        if rule is None:
            return self.grid
        return [choice.chosen.at(seed=seed) for choice in self.choices() if choice.chosen for seed in rule.seeds]

    def retry(self) -> list[CellFolder]:
        """Sets what failed, diverged or timed out to pending, and returns it."""
        again = []
        for folder in map(self.folder_of, self.cells()):
            state = folder.state()
            if state.status in ("failed", "diverged", "timed out"):
                folder.write(replace(state, status="pending", attempts=0, reason=f"before: {state.reason}"))
                again.append(folder)
        return again


def _is_to_run(state: State, attempts: int) -> bool:
    """Tells whether a cell is begun: never ended, or failed with attempts left; a divergence is a result."""
    if state.status in ("failed", "timed out"):
        return state.attempts < attempts
    return state.status in ("pending", "running")


def devices() -> list[str]:
    """Returns the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [one.strip() for one in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if one.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def default_jobs() -> int:
    """Returns how many cells train at once: one a GPU, else one for every four cores."""
    return len(devices()) or max(1, (os.cpu_count() or 1) // 4)
