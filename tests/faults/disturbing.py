"""Disks without room, folders that cannot be written, clocks that are wrong: real ones, where this machine lets us."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

_YEAR_SECONDS = 365.25 * 86_400
# The clock is asked for anew each time, durations go on, and files keep the times that they have.
_FAKETIME = {"FAKETIME": "+0", "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}


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


def start_again_with_faketime() -> bool:
    """Starts this program again under libfaketime, if it is installed; tells whether it runs under it.

    It comes as a package of Python's (`pip install libfaketime`) and with the system. Under version 0.9.10, which is
    Debian 12's, Python cannot sleep (https://github.com/wolfcw/libfaketime/issues/426), so it is not taken.
    """
    if "libfaketime" in os.environ.get("LD_PRELOAD", ""):
        return True
    package = importlib.util.find_spec("libfaketime")
    found = [Path(package.origin).parent / "vendor/libfaketime/src"] if package and package.origin else []
    for folder in [*found, *Path("/usr/lib").glob("*/faketime")]:
        environment = os.environ | _FAKETIME | {"LD_PRELOAD": str(folder / "libfaketime.so.1")}
        trial = [sys.executable, "-c", "import time; time.sleep(0.01)"]
        if not subprocess.run(trial, env=environment, stderr=subprocess.DEVNULL, check=False).returncode:
            os.execve(sys.executable, sys.orig_argv, environment)
    return False


@contextlib.contextmanager
def clock_moved(years: int) -> Iterator[None]:
    """Moves the wall clock of this process and of those it starts: by libfaketime, else where Python asks for it."""
    if "libfaketime" in os.environ.get("LD_PRELOAD", ""):
        with mock.patch.dict(os.environ, FAKETIME=f"{years:+d}y"):
            yield
        return
    real, real_ns = time.time, time.time_ns
    moved = years * _YEAR_SECONDS
    with (
        mock.patch.object(time, "time", lambda: real() + moved),
        mock.patch.object(time, "time_ns", lambda: real_ns() + int(moved * 1e9)),
    ):
        yield
