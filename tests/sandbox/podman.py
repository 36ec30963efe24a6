"""A real Podman for tests: an image of nothing but the Python that runs them, and settings that start anywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

IMAGE = "localhost/peft-eval-test-python:1"
_LEFT_OUT = {"__pycache__", "site-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter"}
# Inside another container, neither may the engine raise limits above its own, nor can every runtime read its cgroups.
_SETTINGS = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
{runtime}
"""


def write_settings(path: Path) -> None:
    """Writes a containers.conf; it counts where CONTAINERS_CONF names it."""
    runtime = '[engine]\nruntime = "runc"' if shutil.which("runc") else ""
    path.write_text(_SETTINGS.format(runtime=runtime), encoding="utf-8")


def write_image(path: Path) -> None:
    """Writes a file system for `podman import`: this Python, its libraries and modules, with python3 on PATH."""
    executable = Path(sys.executable).resolve()
    modules = Path(sysconfig.get_path("stdlib"))
    linked = [executable, *modules.glob("lib-dynload/*.so")]
    with tarfile.open(path, "w") as tar:
        for file in {*_libraries(linked), executable}:
            tar.add(file.resolve(), arcname=str(file), recursive=False)
        tar.add(modules, filter=lambda entry: None if Path(entry.name).name in _LEFT_OUT else entry)
        python = tarfile.TarInfo("usr/bin/python3")
        python.type, python.linkname = tarfile.SYMTYPE, str(executable)
        tar.addfile(python)
        for folder in ("tmp", "proc", "dev", "sys", "etc", "run"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)


def _libraries(binaries: list[Path]) -> set[Path]:
    """Returns the shared libraries that binaries are linked with, the loader among them."""
    said = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True).stdout
    return {Path(os.path.normpath(name)) for name in re.findall(r"(?:=> |^\t)(/\S+) \(0x", said, re.MULTILINE)}


def podman(*arguments: str) -> str:
    """Runs a command of Podman's and returns what it says.

    Raises:
        RuntimeError: it failed; its last words.
    """
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(" ".join(done.stderr.split())[-300:])
    return done.stdout.strip()
