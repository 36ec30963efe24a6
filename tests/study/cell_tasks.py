"""What a cell's process does in the tests of the runner, in place of training."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.manifest import MANIFEST_NAME
from peft_eval.errors import DataError, DivergenceError


def act(settings: dict[str, Any]) -> None:
    """Does what the cell's seed stands for, then writes what makes a cell done."""
    print(f"seed {settings['seed']}", flush=True)
    {1: _fail, 2: _crash, 3: _die, 4: _hang, 5: _diverge}.get(settings["seed"], lambda: None)()
    output = Path(settings["output"])
    output.mkdir(parents=True, exist_ok=True)
    with (output / "runs").open("a") as file:
        file.write("x")
    (output / MANIFEST_NAME).write_text("{}")


def sees_device(settings: dict[str, Any]) -> None:
    """Writes down which device the cell was given."""
    print("device", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    act(settings)


def beside_another(settings: dict[str, Any]) -> None:
    """Waits, for a minute at most, until another cell is at work too; then writes down which device it was given."""
    store = Path(settings["output"]).parents[1]
    (store / f"{settings['seed']}.here").touch()
    until = time.monotonic() + 60
    while len(list(store.glob("*.here"))) < 2:
        if time.monotonic() > until:
            raise DataError("nobody came", place="device", remedy="share it")
        time.sleep(0.05)
    sees_device(settings)


def slowly(settings: dict[str, Any]) -> None:
    """Takes half a second."""
    time.sleep(0.5)
    act(settings)


def needs_room(settings: dict[str, Any]) -> None:
    """Fails with a full disk until there is a file `room` beside the cells, as a library reports it."""
    if not (Path(settings["output"]).parents[1] / "room").exists():
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RuntimeError("not written") from error
    act(settings)


def _fail() -> None:
    raise DataError("no such file", place="data", remedy="fetch it")


def _crash() -> None:
    raise RuntimeError("a bug")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(600)


def _diverge() -> None:
    raise DivergenceError("the loss became nan at step 3")
