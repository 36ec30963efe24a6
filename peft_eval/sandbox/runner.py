"""Runs one program, inside the sandbox: started there as `python -I -S -B runner.py`, with no other file of ours.

On stdin come one line of bytes, `token uid memory_bytes cpu_seconds file_bytes processes open_files`, one line with a
folder of packages (may be empty), and the program. The first stdout is the way back: `R` when the program is about to
start, then the token if it ran to its end, or `E` and one line on what was raised. The program's own output goes to
stderr.

That the token comes back is the only sign of success, so neither an exit code nor anything printed can feign it. While
the program runs, the token is in no variable, no frame, no file, no environment and behind no file descriptor: only
C's stack and heap have it. A program and its tests share an interpreter, though: one that was written to deceive (by
searching its own memory, or by an `==` that is always true) can, here as in any HumanEval.
"""

import gc
import os
import resource
import sys
from _operator import call

BLOCK = 1 << 16
CHANNEL = os.dup(1)
PRINTED = sys.stdout


def received():
    """Returns the token, the limits, the folder of packages and the program; afterwards stdin is empty."""
    blocks = []
    while block := os.read(0, BLOCK):
        blocks.append(block)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    header, packages, program = b"".join(blocks).split(b"\n", 2)
    token, *limits = header.split()
    return token, [int(limit) for limit in limits], packages.decode(), program


def restrict(uid, memory_bytes, cpu_seconds, file_bytes, processes, open_files):
    """Sets the limits of this process and all it starts, then becomes a user without rights; 0 leaves a thing be."""
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_NOFILE, open_files),
    ):
        if value:
            resource.setrlimit(limit, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def steps():
    """Returns an iterator that runs the program, then reports; it is the token's only owner."""
    token, limits, packages, program = received()
    restrict(*limits)
    if packages:
        sys.path.append(packages)
    os.dup2(2, 1)
    os.write(CHANNEL, b"R")
    code = compile(program, "<program>", "exec")
    all_three = map(call, (exec, flush, os.write), (code, PRINTED, CHANNEL), ({}, None, token + b"\n"))
    gc.freeze()  # out of gc.get_objects()
    del gc.unfreeze, gc.get_referents, gc.get_referrers
    return all_three


def flush(printed, _):
    """Sends what is buffered, if the program has not closed it."""
    try:  # noqa: SIM105 (contextlib costs every program its import)
        printed.flush()
    except (OSError, ValueError):
        pass


try:
    for _ in steps():
        pass
except BaseException as error:
    try:
        line = " ".join(f"{type(error).__name__}: {error}".split())
    except BaseException:
        line = type(error).__name__
    flush(PRINTED, None)
    os.write(CHANNEL, b"E" + line[:300].encode("utf-8", "replace"))
finally:
    os._exit(0)  # neither atexit nor threads that were left behind have a say any more
