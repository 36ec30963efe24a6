"""What all ways of running a program have in common: a process to talk to, and a sure way to end it."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from peft_eval.sandbox.program import Limits

RUNNER = Path(__file__).parent / "runner.py"
# -I -S: nothing from the environment, the current folder or site-packages; -B: no attempt to write byte code.
PYTHON_OPTIONS = ("-I", "-S", "-B", "-X", "utf8")


class Running(ABC):
    """A runner that was started.

    Attributes:
        process: what was started; its stdin, stdout and stderr are pipes to the runner.
        uid: the user that the runner shall become, 0 for no change.
        packages: the folder of packages as the runner sees it, may be empty.
    """

    process: subprocess.Popen[bytes]
    uid: int = 0
    packages: str = ""

    @abstractmethod
    def end(self) -> None:
        """Kills whatever still runs and returns when nothing does."""

    def memory_bytes(self) -> int:
        """Returns the resident memory of all its processes, 0 where the backend itself limits it."""
        return 0

    def close_pipes(self) -> None:
        """Closes our ends; what is unsent stays unsent."""
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class Backend(Protocol):
    """A way of running programs.

    Attributes:
        name: as users write it.
        description: for the results, with versions.
        isolated: whether it is a sandbox.
        start_seconds: how long a start may take.
        limits_processes: whether the runner shall limit the number of processes itself.
    """

    name: str
    description: str
    isolated: bool
    start_seconds: float
    limits_processes: bool

    def start(self, limits: Limits) -> Running:
        """Starts a runner."""


def start_process(command: list[str], *, environment: dict[str, str], **options: object) -> subprocess.Popen[bytes]:
    """Starts a command with three unbuffered pipes and no more of our environment than what is given."""
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment,
        **options,
    )


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process and all its descendants; what ended meanwhile counts nothing."""
    import psutil

    total = 0
    with suppress(psutil.Error):
        first = psutil.Process(pid)
        for process in [first, *first.children(recursive=True)]:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total
