"""Disks without room, folders that cannot be written, clocks that are wrong: real ones, where this machine lets us."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

_YEAR_SECONDS = 365.25 * 86_400


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"no right to mount: {done.stderr.strip()}")


def can_mount(place: Path) -> bool:
    """Tells whether file systems can be mounted here."""
    try:
        with full_disk(place / "try", 1 << 20):
            return True
    except (PermissionError, FileNotFoundError):
        return False


@contextlib.contextmanager
def full_disk(folder: Path, free_bytes: int) -> Iterator[Callable[[], None]]:
    """Makes a folder a disk with so much room; what it yields makes it large.

    Raises:
        PermissionError: this user may not mount anything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={max(free_bytes, 4096)}", "tmpfs", folder)
    try:
        yield lambda: _mount("-o", "remount,size=1g", folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Makes a folder one that nobody can write to, the super-user neither.

    Raises:
        PermissionError: this user may not mount anything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def clock_moved(years: float) -> Iterator[None]:
    """Moves the wall clock of this process, and of those it forks: `time.time` and what stamps files by name."""
    real, real_ns = time.time, time.time_ns
    moved = years * _YEAR_SECONDS
    with (
        mock.patch.object(time, "time", lambda: real() + moved),
        mock.patch.object(time, "time_ns", lambda: real_ns() + int(moved * 1e9)),
    ):
        yield
