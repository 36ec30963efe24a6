"""What a program may use, and what became of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use. The defaults leave HumanEval's own solutions room many times over.

    Attributes:
        seconds: wall-clock time, from the program's first line; starting the sandbox is not counted.
        memory_bytes: address space of each process, and resident memory of all its processes together.
        file_bytes: size of any one file.
        disk_bytes: all of /tmp, the only place that can be written; it is memory, and gone afterwards.
        processes: processes and threads.
        open_files: file descriptors of each process.
        output_bytes: how much of what it prints is kept; the rest is read and dropped.
    """

    seconds: float = 3.0
    memory_bytes: int = 1024 * MIB
    file_bytes: int = 16 * MIB
    disk_bytes: int = 64 * MIB
    processes: int = 32
    open_files: int = 64
    output_bytes: int = 4096


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program.

    Attributes:
        passed: it ran to its last line without an exception.
        timed_out: it was stopped because its time was up.
        error: one line on why it did not pass; empty if it did.
        seconds: how long it ran.
        output: the beginning of what it printed.
    """

    passed: bool
    timed_out: bool
    error: str
    seconds: float
    output: str

    def as_record(self) -> dict[str, Any]:
        """Returns the fields as a mapping for JSON."""
        return asdict(self)
