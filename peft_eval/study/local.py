"""Runs cells in processes of this machine, each of its own, so that one's end is not another's.

The processes are forked from a server that has imported what training needs, so a cell costs no start of Python. Each
has its own log, ends with this process however that ends, and is ended when it takes too long.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from peft_eval.checkpoint.writing import is_disk_full
from peft_eval.errors import DiskFullError, DivergenceError, PeftEvalError, causes
from peft_eval.study.store import CellFolder, State

if TYPE_CHECKING:
    from peft_eval.study.contamination import Overlaps

Task = Callable[[dict[str, Any]], None]
DIVERGED = 3
NO_SPACE = 4
READY = ("peft_eval.study.ready",)
_LOOK_AGAIN_SECONDS = 2.0


def train_cell(settings: dict[str, Any], overlaps: Overlaps | None = None) -> None:
    """Trains what the settings say, going on where an earlier attempt stopped.

    Args:
        settings: every setting by its key.
        overlaps: knows which questions of suites the data holds, for the manifest.
    """
    from peft_eval.training.resolve import resolve
    from peft_eval.training.run import train
    from peft_eval.training.states import UnfinishedRun

    spec = resolve({key: (value, key) for key, value in settings.items()})
    began = UnfinishedRun(Path(spec.output)).exists
    overlap = (lambda examples: overlaps.of(spec)) if overlaps else None
    train(spec, resume=began, overwrite=not began, overlap=overlap)


def execute(command: Sequence[str], log: Path, folder: Path | None = None) -> int:
    """Runs a command, its output going to the end of a log; returns its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        end = subprocess.run(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, cwd=folder, check=False)
    return end.returncode


@dataclass
class _Running:
    folder: CellFolder
    process: BaseProcess
    lifeline: Connection
    lock: FileLock
    slot: int
    began: float
    before: State


class LocalRunner:
    """Runs cells, so many at once.

    Args:
        jobs: how many at once.
        minutes: a cell that takes longer is ended; None for no limit.
        task: what a cell's process does with its settings.
        preload: modules that the processes find imported.
        threads: threads of each; None for what OMP_NUM_THREADS says, else an equal share of the cores.
        devices: what the processes see as `CUDA_VISIBLE_DEVICES`, given out in turn; empty for what this one sees.
    """

    def __init__(
        self,
        jobs: int,
        *,
        minutes: float | None = None,
        task: Task = train_cell,
        preload: Sequence[str] = READY,
        threads: int | None = None,
        devices: Sequence[str] = (),
    ):
        self.jobs = jobs
        self.seconds = minutes and minutes * 60
        self.task = task
        self.threads = threads or _threads_asked_for() or max(1, (os.cpu_count() or 1) // jobs)
        self._slots = list(range(jobs))
        self.devices = devices
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(list(preload))
        self._running: list[_Running] = []

    def run(self, folders: Sequence[CellFolder], changed: Callable[[CellFolder, State], None]) -> None:
        """Runs what is not done; a cell that another process has is waited for.

        Args:
            folders: the cells.
            changed: is told of every new state.

        Raises:
            DiskFullError: no cell is to blame, all that are not done are left to be run.
        """
        waiting = deque(folders)
        try:
            while waiting or self._running:
                elsewhere = self._fill(waiting, changed)
                if self._running:
                    self._collect(changed, _LOOK_AGAIN_SECONDS if elsewhere else None)
                elif elsewhere:
                    time.sleep(_LOOK_AGAIN_SECONDS)
        finally:
            for one in self._running:
                _end(one)
                self._finish(one, replace(one.before, status="pending", reason="interrupted"), changed)

    def execute(self, command: Sequence[str], log: Path) -> int:
        """Runs a command, as an evaluation; returns its exit code."""
        return execute(command, log)

    def _fill(self, waiting: deque[CellFolder], changed: Callable[[CellFolder, State], None]) -> bool:
        """Starts cells while there is room; tells whether any is in another process's hands."""
        taken: list[CellFolder] = []
        while waiting and len(self._running) < self.jobs:
            folder = waiting.popleft()
            lock = folder.lock()
            if lock is None:
                taken.append(folder)
                continue
            state = folder.state()
            if state.status == "done":
                lock.release()
                changed(folder, state)
                continue
            self._start(folder, lock, state, changed)
        waiting.extend(taken)
        return bool(taken)

    def _start(
        self, folder: CellFolder, lock: FileLock, before: State, changed: Callable[[CellFolder, State], None]
    ) -> None:
        ours, theirs = self._processes.Pipe()
        slot = self._slots.pop(0)
        environment = {"OMP_NUM_THREADS": str(self.threads)}
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = self.devices[slot % len(self.devices)]
        process = self._processes.Process(
            target=_in_child, args=(self.task, folder.settings, str(folder.log), theirs, environment), daemon=False
        )
        state = replace(before, status="running", attempts=before.attempts + 1, reason="")
        folder.write(state)
        process.start()
        theirs.close()
        self._running.append(_Running(folder, process, ours, lock, slot, time.monotonic(), state))
        changed(folder, state)

    def _collect(self, changed: Callable[[CellFolder, State], None], most: float | None) -> None:
        """Waits until a cell ends or is overdue, and notes what came of it."""
        if self.seconds is not None:
            left = min(one.began + self.seconds for one in self._running) - time.monotonic()
            most = max(0.0, left) if most is None else max(0.0, min(left, most))
        ended = set(wait([one.process.sentinel for one in self._running], most))
        for one in list(self._running):
            overdue = self.seconds is not None and time.monotonic() - one.began >= self.seconds
            if one.process.sentinel in ended:
                self._running.remove(one)
                state = _outcome(one)
                self._finish(one, state, changed)
                if one.process.exitcode == NO_SPACE:
                    store = str(one.folder.folder.parent)
                    raise DiskFullError(state.reason, place=store, remedy="free some, then run the study again")
            elif overdue:
                self._running.remove(one)
                _end(one)
                reason = f"not done after {self.seconds / 60 if self.seconds else 0:g} minutes"
                self._finish(one, replace(one.before, status="timed out", reason=reason), changed)

    def _finish(self, one: _Running, state: State, changed: Callable[[CellFolder, State], None]) -> None:
        state = replace(state, seconds=round(one.before.seconds + time.monotonic() - one.began, 3))
        one.lifeline.close()
        self._slots.append(one.slot)
        one.folder.write(state)
        one.lock.release()
        changed(one.folder, state)


def _outcome(one: _Running) -> State:
    one.process.join()
    code = one.process.exitcode
    if code == 0:
        return replace(one.before, status="done", reason="")
    if code == NO_SPACE:
        return replace(one.before, status="pending", attempts=0, reason="no space left on the disk")
    said = one.folder.last_words()
    if code == DIVERGED:
        return replace(one.before, status="diverged", reason=said)
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        said = "killed by the system, most likely out of memory" if code == -signal.SIGKILL else f"ended by {name}"
    return replace(one.before, status="failed", reason=said or f"exit code {code}")


def _end(one: _Running) -> None:
    """Ends a cell's process with all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(one.process.pid or 0, signal.SIGKILL) if one.process.pid else None
    one.process.kill()
    one.process.join()


def _in_child(
    task: Task, settings: dict[str, Any], log: str, lifeline: Connection, environment: dict[str, str]
) -> None:
    os.setsid()
    with contextlib.suppress(OSError):
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(output, stream)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    os.environ.update(environment)
    with _exit_codes(Path(log).parent):
        _limit_threads(int(environment["OMP_NUM_THREADS"]))
        task(settings)
    sys.stdout.flush()


def _end_with(lifeline: Connection) -> None:
    """Ends this process and what it started when the runner is gone."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os.killpg(os.getpid(), signal.SIGKILL)


def _threads_asked_for() -> int | None:
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # the first number is that of the outermost level
    return int(said) or None if said.isdecimal() else None


def _limit_threads(threads: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _exit_codes(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if isinstance(error, PeftEvalError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        with contextlib.suppress(OSError):  # the log's disk may be full as well
            sys.stderr.flush()
        os._exit(_exit_code(error, folder))


def _exit_code(error: BaseException, folder: Path) -> int:
    if any(isinstance(cause, DiskFullError) or is_disk_full(cause, folder) for cause in causes(error)):
        return NO_SPACE
    if isinstance(error, DivergenceError):
        return DIVERGED
    return 2 if isinstance(error, PeftEvalError) else 1
