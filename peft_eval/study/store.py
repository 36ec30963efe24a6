"""Where cells are kept: one folder each, named by what its result depends on, so that nothing is computed twice.

```
STORE/<id>/cell.json      the settings, for people and programs
           state.json     pending, running, done, failed, diverged, timed out; attempts, seconds, the reason
           log.txt        what the run printed, all attempts
           checkpoint/    the trained checkpoint
           results/       what lm-eval wrote
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from peft_eval import __version__
from peft_eval.checkpoint.manifest import MANIFEST_NAME
from peft_eval.errors import DataError
from peft_eval.study.cells import Cell
from peft_eval.whole_file import write_whole

Status = Literal["pending", "running", "done", "failed", "diverged", "timed out"]
STATUSES: tuple[Status, ...] = ("pending", "running", "done", "failed", "diverged", "timed out")


@dataclass(frozen=True, slots=True)
class State:
    """How far a cell is.

    Attributes:
        status: in one word or two.
        attempts: how often it was begun since it was last set to pending.
        seconds: what the attempts took together.
        reason: why it is not done, one line.
        version: of the peft-eval that wrote this.
    """

    status: Status = "pending"
    attempts: int = 0
    seconds: float = 0.0
    reason: str = ""
    version: str = __version__


class CellFolder:
    """A cell's folder.

    Args:
        store: the folder of all cells.
        cell: the cell.
    """

    def __init__(self, store: Path, cell: Cell):
        self.cell = cell
        self.folder = store / cell.id
        self.log = self.folder / "log.txt"
        self.checkpoint = self.folder / "checkpoint"
        self.results = self.folder / "results"

    @property
    def settings(self) -> dict[str, Any]:
        """The run's settings, its output folder among them."""
        return {**self.cell.spec.flat(), "output": str(self.checkpoint)}

    def state(self) -> State:
        """Returns the state; a cell whose checkpoint is there is done, whoever made it.

        Raises:
            DataError: the state's file is broken.
        """
        try:
            content = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
            state = State(**content)
        except FileNotFoundError:
            state = State()
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"a cell's state cannot be read: {error}",
                place=str(self.folder / "state.json"),
                remedy="delete that file: the cell is then looked at anew",
            ) from error
        if state.status not in STATUSES:
            raise DataError(f"unknown status {state.status!r}", place=str(self.folder / "state.json"))
        if self.trained:
            return replace(state, status="done", reason="")
        return state if state.status != "done" else replace(state, status="pending", reason="its checkpoint is gone")

    @property
    def trained(self) -> bool:
        """Whether the checkpoint is whole."""
        return (self.checkpoint / MANIFEST_NAME).is_file()

    def write(self, state: State) -> None:
        """Keeps a state, the settings beside it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "cell.json").is_file():
            content = {"id": self.cell.id, "name": self.cell.name, "train": self.settings, **self.cell.inputs}
            _write(self.folder / "cell.json", content)
        _write(self.folder / "state.json", asdict(state))

    def lock(self) -> FileLock | None:
        """Takes the cell for this process; None if another one has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def last_words(self) -> str:
        """Returns the line of the log that says most about its end: an error's, else the last."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
        except OSError:
            return ""
        said = [line.strip() for line in lines[-200:] if line.strip()]
        errors = [line for line in said if line.startswith("error: ")]
        return (errors or said or [""])[-1].removeprefix("error: ")[:300]


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False))
