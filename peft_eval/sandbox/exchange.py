"""One program's run as seen from outside: sends it, keeps the clock and the bounds, and reads the verdict."""

from __future__ import annotations

import os
import secrets
import selectors
import signal
import time
from contextlib import suppress
from math import ceil

from peft_eval.errors import SandboxError
from peft_eval.sandbox.backend import Backend, Running
from peft_eval.sandbox.program import MIB, Limits, Outcome

_BLOCK = 1 << 16
_LOOK_SECONDS = 0.05  # how often memory, and whether the runner still lives, is looked at
_HUNG_UP_SECONDS = 0.002  # the same once the way back is closed, which is seldom long before its end
_VERDICT_BYTES = 4096
_STARTS = 3
_SPARE_CPU_SECONDS = 2


def run_program(program: str, limits: Limits, backend: Backend) -> Outcome:
    """Runs one program and returns when nothing of it is left.

    Raises:
        SandboxError: the sandbox does not start, three times in a row.
    """
    problem = ""
    for attempt in range(_STARTS):
        time.sleep(attempt)
        running = backend.start(limits)
        try:
            exchange = _Exchange(running, program, limits, backend)
            outcome = exchange.outcome()
        finally:
            running.end()
        if outcome is not None:
            return outcome
        problem = (
            " ".join(exchange.printed().split()) or f"{backend.name} ended with exit code {running.process.returncode}"
        )
    raise SandboxError(f"the sandbox does not start: {problem}", place=backend.name)


class _Exchange:
    def __init__(self, running: Running, program: str, limits: Limits, backend: Backend):
        self._running = running
        self._process = running.process
        self._limits = limits
        self._token = secrets.token_hex(16).encode()
        self._unsent = memoryview(self._message(program, backend))
        self._verdict = bytearray()
        self._output = bytearray()
        self._selector = selectors.DefaultSelector()
        self._begun = 0.0
        self._deadline = time.monotonic() + backend.start_seconds

    def _message(self, program: str, backend: Backend) -> bytes:
        limits = self._limits
        numbers = (
            self._running.uid,
            limits.memory_bytes,
            ceil(limits.seconds) + _SPARE_CPU_SECONDS,
            limits.file_bytes,
            limits.processes if backend.limits_processes else 0,
            limits.open_files,
        )
        header = b" ".join([self._token, *(b"%d" % number for number in numbers)])
        # A model can write lone surrogates; such a program is not Python, which its compilation then says.
        return b"\n".join([header, self._running.packages.encode(), program.encode("utf-8", "surrogatepass")])

    def outcome(self) -> Outcome | None:
        """Talks to the runner until the program ended or has to be ended; None if it never started."""
        for pipe, act in (
            (self._process.stdin, self._send),
            (self._process.stdout, self._hear),
            (self._process.stderr, self._read_output),
        ):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            events = selectors.EVENT_WRITE if act == self._send else selectors.EVENT_READ
            self._selector.register(pipe, events, act)
        with self._selector:
            return self._talk()

    def _talk(self) -> Outcome | None:
        looked = time.monotonic()
        while (now := time.monotonic()) < self._deadline:
            hung_up = self._process.stdout not in self._selector.get_map()
            wait = _HUNG_UP_SECONDS if hung_up else _LOOK_SECONDS
            for key, _ in self._selector.select(min(wait, self._deadline - now)):
                key.data(key.fileobj)
            if outcome := self._judged(is_whole=hung_up):
                return outcome
            # Neither a closed pipe nor an open one tells whether it still runs: programs close and inherit them.
            if time.monotonic() - looked >= wait:
                looked = time.monotonic()
                if _has_ended(self._process.pid):
                    return self._ended()
                if self._begun and self._running.memory_bytes() > self._limits.memory_bytes:
                    return self._failed(f"used more than {self._limits.memory_bytes / MIB:g} MiB of memory")
        if not self._begun:
            return None
        return self._failed(f"timed out after {self._limits.seconds:g} s", timed_out=True)

    def _judged(self, *, is_whole: bool) -> Outcome | None:
        """Returns what the runner reported, if it did; a failure's words count only when they are whole."""
        if self._begun and self._verdict.startswith(self._token + b"\n"):
            return Outcome(True, False, "", time.monotonic() - self._begun, self.printed())
        if self._begun and is_whole and self._verdict[:1] == b"E":
            return self._failed(self._verdict[1:].decode("utf-8", "replace"))
        return None

    def _ended(self) -> Outcome | None:
        with suppress(BlockingIOError):  # what it sent last may still lie in the pipe
            while self._process.stdout in self._selector.get_map():
                self._hear(self._process.stdout)
        if not self._begun:
            return None
        if outcome := self._judged(is_whole=True):
            return outcome
        if self._verdict:
            return self._failed("wrote to the way back itself")
        code = self._process.wait()
        if code > 128:  # bwrap and container engines pass a signal on like a shell
            code = 128 - code
        how = f"by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"with exit code {code}"
        return self._failed(f"ended {how} before its last line")

    def _failed(self, error: str, *, timed_out: bool = False) -> Outcome:
        return Outcome(False, timed_out, error, time.monotonic() - self._begun, self.printed())

    def printed(self) -> str:
        """Returns the beginning of what was printed."""
        return self._output.decode("utf-8", "replace").strip()

    def _send(self, pipe: object) -> None:
        assert self._process.stdin is not None
        try:
            self._unsent = self._unsent[os.write(self._process.stdin.fileno(), self._unsent[:_BLOCK]) :]
        except BrokenPipeError:
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._selector.unregister(self._process.stdin)
            self._process.stdin.close()

    def _hear(self, pipe: object) -> None:
        assert self._process.stdout is not None
        block = os.read(self._process.stdout.fileno(), _BLOCK)
        if not block:
            self._selector.unregister(self._process.stdout)
            return
        if not self._begun:
            self._begun = time.monotonic()
            self._deadline = self._begun + self._limits.seconds
            block = block[1:]
        self._verdict += block[: _VERDICT_BYTES - len(self._verdict)]

    def _read_output(self, pipe: object) -> None:
        assert self._process.stderr is not None
        block = os.read(self._process.stderr.fileno(), _BLOCK)
        if not block:
            self._selector.unregister(self._process.stderr)
        self._output += block[: max(0, self._limits.output_bytes - len(self._output))]


def _has_ended(pid: int) -> bool:
    """Returns whether a child of ours has ended, and leaves it to be waited for, so that its id stays taken."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
