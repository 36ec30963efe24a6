"""No sandbox: a process of the user's own, with limits. NOT safe for code that nobody has read.

A program can read and write whatever the user can, reach the network, and leave processes behind. Only for a host
that is itself expendable, and only when asked for with `unsafe_code=true`.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import suppress

from peft_eval.sandbox.backend import PYTHON_OPTIONS, RUNNER, Running, resident_bytes, start_process
from peft_eval.sandbox.program import Limits


class Bare:
    """Programs as processes of the user's own.

    Args:
        packages: folder that holds the packages that programs may import, may be empty.
    """

    name = "none"
    description = "no sandbox: processes of the user's own with limits (unsafe_code=true)"
    isolated = False
    start_seconds = 20.0
    limits_processes = False  # it would count all of the user's other processes

    def __init__(self, packages: str = ""):
        self._packages = packages

    def start(self, limits: Limits) -> Running:
        """Starts a runner in a folder of its own."""
        return _OwnProcess(self._packages)


class _OwnProcess(Running):
    def __init__(self, packages: str):
        self.packages = packages
        self._folder = tempfile.TemporaryDirectory(prefix="peft-eval-", ignore_cleanup_errors=True)
        self.process = start_process(
            [sys.executable, *PYTHON_OPTIONS, str(RUNNER)],
            environment={"HOME": self._folder.name, "TMPDIR": self._folder.name, "OPENBLAS_NUM_THREADS": "1"},
            cwd=self._folder.name,
            start_new_session=True,
        )

    def memory_bytes(self) -> int:
        return resident_bytes(self.process.pid)

    def end(self) -> None:
        """Kills the process and those of its group; a process that left the group is not found."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.close_pipes()
        self._folder.cleanup()
