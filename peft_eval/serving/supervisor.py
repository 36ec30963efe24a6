"""Runs a server that ends with its parent, however that ends: `python -m peft_eval.serving.supervisor COMMAND...`.

The parent holds the other end of our standard input. It closes it to stop the server; the kernel closes it if the
parent is killed. Then the server's whole process group gets SIGTERM, and SIGKILL if that does not help. A death signal
of the kernel (PR_SET_PDEATHSIG) would come when the thread that started us ends, not the parent, and on Linux alone.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 10
_LOOK_EVERY_SECONDS = 0.25


def supervise(command: list[str]) -> int:
    """Runs a command until it ends or standard input is closed; returns its exit code."""
    # SIGTERM and SIGINT to us mean the same as a closed input.
    asked_to_stop = False

    def stop(*_: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        while server.poll() is None and not asked_to_stop:
            if selector.select(_LOOK_EVERY_SECONDS) and not os.read(sys.stdin.fileno(), 1):
                break
    end_group(server)
    return server.wait()


def end_group(server: subprocess.Popen[bytes]) -> None:
    """Ends a process and all of its group, also those that outlive it."""
    _signal_group(server.pid, signal.SIGTERM)
    until = time.monotonic() + GRACE_SECONDS
    while _group_lives(server) and time.monotonic() < until:
        time.sleep(0.05)
    _signal_group(server.pid, signal.SIGKILL)


def _group_lives(server: subprocess.Popen[bytes]) -> bool:
    server.poll()  # a process that ended counts as a member until it is collected
    return _signal_group(server.pid, 0)


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
