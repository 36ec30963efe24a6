"""Commands in processes of their own, forked after the imports, so that a kill costs a tenth of a second, not ten."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import psutil

_IMPORTED_BEFORE = (
    "peft_eval.cli.train", "peft_eval.cli.merge", "peft_eval.cli.eval", "peft_eval.merging.export",
    "peft_eval.training.run", "peft_eval.training.trainer", "peft_eval.harness.hf_model", "peft_eval.data.fetch",
    "transformers.models.llama.modeling_llama", "requests",
)  # fmt: skip


@dataclass(frozen=True)
class Running:
    """A forked command: its process, leader of a group of its own, and the file that has what it said."""

    process: int
    said: Path


def preload() -> None:
    """Imports what the commands need; nothing is computed, so that a fork has no threads to miss."""
    for module in _IMPORTED_BEFORE:
        importlib.import_module(module)


def start_server_of_processes() -> None:
    """Starts the server that a study's cells are forked from, for all studies to come."""
    from peft_eval.study.local import READY

    forkserver.set_forkserver_preload(list(READY))
    forkserver.ensure_running()


def started(run: Callable[[Path], None], output: Path) -> Running:
    """Starts a road in a process of its own."""
    said = Path(tempfile.mkstemp(prefix="said-")[1])
    child = os.fork()
    if child:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)
        return Running(child, said)
    os.setpgid(0, 0)
    with said.open("w") as words:
        _run_and_exit(lambda: run(output), words.fileno())


def _run_and_exit(action: Callable[[], object], words: int) -> NoReturn:
    """Does something in a process just forked, what it says going to a file, and ends that process."""
    code = 99
    try:
        for stream in (1, 2):
            os.dup2(words, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        action()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def commands_forked() -> Iterator[None]:
    """Forks what a command would start as `python -m peft_eval.cli.main`; its cells come from the server above."""
    start = subprocess.run

    def run(command: Sequence[str], **given: Any) -> subprocess.CompletedProcess:
        if list(command[:3]) != [sys.executable, "-m", "peft_eval.cli.main"]:
            return start(command, **given)
        child = os.fork()
        if not child:
            from peft_eval.cli.main import cli

            _run_and_exit(lambda: cli.main(list(command[3:])), given["stdout"].fileno())
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with (
        mock.patch.object(subprocess, "run", run),
        mock.patch.object(forkserver.ForkServer, "ensure_running"),  # it is, but is no child of this process
    ):
        yield


def finished(running: Running) -> tuple[int, str]:
    """Waits for a process; returns its exit code, negative for a signal, and what it said."""
    _, status = os.waitpid(running.process, 0)
    text = running.said.read_text(encoding="utf-8", errors="replace")
    running.said.unlink()
    return os.waitstatus_to_exitcode(status), text


def killed_at(running: Running, seconds: float, *, alone: bool = False) -> bool:
    """Kills a process after some time, with all that it started unless alone; tells whether it was still at work."""
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        (os.kill if alone else os.killpg)(running.process, signal.SIGKILL)
    _, status = os.waitpid(running.process, 0)
    running.said.unlink()
    return os.WIFSIGNALED(status)


def left_behind(running: Running, seconds: float) -> list[str]:
    """Returns what is still there of a process's group after some time, and ends it."""
    until = time.monotonic() + seconds
    while (family := _group(running.process)) and time.monotonic() < until:
        time.sleep(0.1)
    if family:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process, signal.SIGKILL)
    return family


def _group(leader: int) -> list[str]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
    return found
