"""Commands in processes of their own, forked after the imports, so that a kill costs a tenth of a second, not ten."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_IMPORTED_BEFORE = (
    "peft_eval.cli.train", "peft_eval.cli.merge", "peft_eval.cli.eval", "peft_eval.merging.export",
    "peft_eval.training.run", "peft_eval.training.trainer", "peft_eval.harness.hf_model", "peft_eval.data.fetch",
    "transformers.models.llama.modeling_llama", "httpx",
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


def started(run: Callable[[Path], None], output: Path) -> Running:
    """Starts a road in a process of its own."""
    said = Path(tempfile.mkstemp(prefix="said-")[1])
    child = os.fork()
    if child:
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(child, child)
        return Running(child, said)
    code = 99
    try:
        os.setpgid(0, 0)
        words = os.open(said, os.O_WRONLY | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(words, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        run(output)
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


def finished(running: Running) -> tuple[int, str]:
    """Waits for a process; returns its exit code, negative for a signal, and what it said."""
    _, status = os.waitpid(running.process, 0)
    text = running.said.read_text(encoding="utf-8", errors="replace")
    running.said.unlink()
    return os.waitstatus_to_exitcode(status), text


def killed_at(running: Running, seconds: float) -> bool:
    """Kills a process and all that it started after some time; tells whether it was still at work."""
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.process, signal.SIGKILL)
    _, status = os.waitpid(running.process, 0)
    running.said.unlink()
    return os.WIFSIGNALED(status)
