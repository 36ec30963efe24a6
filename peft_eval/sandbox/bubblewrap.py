"""Bubblewrap: a fresh set of namespaces for every program, in about five milliseconds.

A program sees its interpreter, the standard library and shared libraries, read-only, and an empty /tmp: nothing of
/etc, homes, /proc or the environment. It has no network, not even the host's loopback, no way to gain rights, and a
filter of system calls. When its time is up, the first process of its pid namespace is killed, and the kernel kills
the rest.

Run by an ordinary user, a user namespace makes this possible. Run by root, none is used: the runner becomes a random
user without rights instead, because the kernel limits root's number of processes in no namespace. Before Linux 5.14 an
ordinary user's other processes count as the program's, so one that starts threads may fail there.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from peft_eval.errors import SandboxError
from peft_eval.sandbox.backend import PYTHON_OPTIONS, RUNNER, Running, resident_bytes, start_process
from peft_eval.sandbox.interpreter import Interpreter
from peft_eval.sandbox.program import Limits
from peft_eval.sandbox.seccomp import seccomp_filter

_PACKAGES = "/packages"
_NOBODY = "65534"
_ENVIRONMENT = {"HOME": "/tmp", "TMPDIR": "/tmp", "LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}
# A machine that is short of memory or of disk can take seconds over it; giving up would end the whole run.
_KILL_SECONDS = 60.0
INSTALL = "install Debian's or Ubuntu's package `bubblewrap`, Fedora's is called the same"


class Bubblewrap:
    """Programs in bubblewrap.

    Args:
        interpreter: the Python that runs them, as `inspect_interpreter` returns it.

    Raises:
        SandboxError: there is no `bwrap`.
    """

    name = "bubblewrap"
    isolated = True
    start_seconds = 20.0
    limits_processes = True

    def __init__(self, interpreter: Interpreter):
        executable = shutil.which("bwrap")
        if executable is None:
            raise SandboxError("no `bwrap` on PATH", place="bubblewrap", remedy=INSTALL)
        self._executable = executable
        self._interpreter = interpreter
        self._as_root = _is_the_hosts_root()
        self._filter = seccomp_filter()
        self.packages = _PACKAGES if interpreter.packages else ""
        said = subprocess.run([executable, "--version"], capture_output=True, text=True).stdout.strip()
        self.description = said + ("" if self._filter else ", without a filter of system calls on this machine")

    def command(self, limits: Limits, *, info: int, filter_of_calls: int | None) -> list[str]:
        """Returns the command line that starts a runner.

        Args:
            limits: those that mounts need.
            info: descriptor that bwrap writes the first process's id to.
            filter_of_calls: descriptor that it reads the filter from.
        """
        interpreter = self._interpreter
        command = [self._executable, "--die-with-parent", "--new-session", "--info-fd", str(info), "--clearenv"]
        command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        command += ["--hostname", "sandbox", "--cap-drop", "ALL"]
        if self._as_root:  # to become another user, after which the two are gone
            command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            command += ["--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY]
        shown = {str(path): path for path in (interpreter.binary, *interpreter.readable)}
        shown |= {f"{_PACKAGES}/{path.name}": path for path in interpreter.packages}
        for folder in dict.fromkeys(parent for place in shown for parent in reversed(Path(place).parents[:-1])):
            command += ["--perms", "0755", "--dir", str(folder)]  # else bwrap makes them for root alone
        for place, path in shown.items():
            command += ["--ro-bind", str(path), place]
        command += ["--ro-bind", str(RUNNER), "/runner.py", "--dev", "/dev"]
        command += ["--perms", "1777", "--size", str(limits.disk_bytes), "--tmpfs", "/tmp"]
        command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
        for name, value in _ENVIRONMENT.items():
            command += ["--setenv", name, value]
        if filter_of_calls is not None:
            command += ["--seccomp", str(filter_of_calls)]
        return [*command, "--", str(interpreter.binary), *PYTHON_OPTIONS, "/runner.py"]

    def start(self, limits: Limits) -> Running:
        """Starts a runner."""
        info, info_for_child = os.pipe()
        filter_of_calls = _pipe_with(self._filter) if self._filter else None
        theirs = [info_for_child, *([filter_of_calls] if filter_of_calls is not None else [])]
        try:
            process = start_process(
                self.command(limits, info=info_for_child, filter_of_calls=filter_of_calls),
                environment={},
                pass_fds=tuple(theirs),
            )
        except BaseException:
            os.close(info)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return _Namespace(process, info, uid=_random_uid() if self._as_root else 0, packages=self.packages)


class _Namespace(Running):
    def __init__(self, process: subprocess.Popen[bytes], info: int, *, uid: int, packages: str):
        self.process = process
        self.uid = uid
        self.packages = packages
        self._init = _first_process(info)
        self._handle: int | None = None
        if self._init is not None:
            with suppress(ProcessLookupError):
                self._handle = os.pidfd_open(self._init)

    def memory_bytes(self) -> int:
        return resident_bytes(self._init) if self._init is not None else 0

    def end(self) -> None:
        """Kills bwrap, with which the namespace dies, and waits until the kernel has cleared it."""
        self.process.kill()
        self.process.wait()
        self.close_pipes()
        if self._handle is None:
            return
        try:
            # The first process of a pid namespace has ended only when all others have.
            if not select.select([self._handle], [], [], _KILL_SECONDS)[0]:
                raise SandboxError(
                    f"processes of a program still live {_KILL_SECONDS:g} s after they were killed",
                    place=f"bubblewrap, process {self._init}",
                    remedy="see what they wait for in /proc/PID/stack",
                )
        finally:
            os.close(self._handle)
            self._handle = None


def _first_process(info: int) -> int | None:
    """Reads which process is the first of the new namespace; None if bwrap ended before it was made."""
    with os.fdopen(info, "rb") as told:
        try:
            return int(json.loads(told.read())["child-pid"])
        except (ValueError, KeyError):
            return None


def _pipe_with(content: bytes) -> int:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(content)
    return reading


def _is_the_hosts_root() -> bool:
    """Returns whether we are root and all users exist; not so for the root of a rootless container."""
    if os.geteuid() != 0:
        return False
    try:
        first, _, count = Path("/proc/self/uid_map").read_text().split("\n")[0].split()
    except (OSError, ValueError):
        return True
    return first == "0" and int(count) >= 2**31


def _random_uid() -> int:
    # Beyond what systems hand out, and never the same for two programs: they cannot count as each other's processes.
    return random.SystemRandom().randrange(2**30, 2**31)
