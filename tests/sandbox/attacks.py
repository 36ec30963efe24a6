"""Programs that attack the host, or their own verdict.

`HARMLESS` programs pass when the sandbox denies what they try: each says so with an assertion, which fails loudly where
it succeeds. `FAILING` programs must not pass, whatever they do.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from peft_eval.sandbox import Limits, Outcome, run_programs
from peft_eval.sandbox.backend import Backend

_DENIED = """
def denied(attempt):
    try:
        attempt()
    except (OSError, MemoryError, RuntimeError):
        return True
    return False
import ctypes, os, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
"""

HARMLESS = {
    "read shadow": "assert denied(lambda: open('/etc/shadow')) and denied(lambda: open('/etc/passwd'))",
    "read home": (
        "assert denied(lambda: os.listdir('/home'))\n"
        "for path, folders, files in os.walk('/root'):\n"
        "    assert '.ssh' not in folders and not any(name.startswith('.') and name.endswith('rc') for name in files)"
    ),
    "read given secret": "assert denied(lambda: open({secret!r}))",
    "read environment": (
        "assert {secret!r} not in os.environ.values()\n"
        "assert denied(lambda: open('/proc/1/environ')) and denied(lambda: open('/proc/self/environ'))\n"
        "assert set(os.environ) <= {{'HOME', 'TMPDIR', 'LC_ALL', 'OPENBLAS_NUM_THREADS', 'PWD'}}, dict(os.environ)"
    ),
    "see processes": "assert denied(lambda: os.listdir('/proc')) and os.getpid() < 10 and os.getppid() in (0, 1)",
    "write outside": (
        "places = ['/x', '/etc/x', '/usr/x', '/dev/x', '/dev/shm/x', '/runner.py', os.__file__, {folder!r} + '/x']\n"
        "for place in places:\n"
        "    assert denied(lambda: open(place, 'w')), place"
    ),
    "run the host's programs": (
        "import subprocess\n"
        "for name in ('/bin/sh', '/usr/bin/env', '/usr/bin/bwrap', '/usr/bin/curl'):\n"
        "    assert denied(lambda: subprocess.run([name])), name"
    ),
    "host's loopback": "assert denied(lambda: socket.create_connection(('127.0.0.1', {port}), 1))",
    "internet": "assert denied(lambda: socket.create_connection(('1.1.1.1', 443), 1))",
    "names": "assert denied(lambda: socket.getaddrinfo('example.org', 443))",
    "become root": (
        "assert os.getuid() != 0 and os.geteuid() != 0\n"
        "assert denied(lambda: os.setuid(0)) and denied(lambda: os.chown('/tmp', 0, 0))"
    ),
    "new user namespace": "assert libc.unshare(0x10000000) == -1 and ctypes.get_errno() == 1",
    "mount": "assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == -1",
    "trace the init": "assert libc.ptrace(16, 1, 0, 0) == -1",
    "raise limits": (
        "import resource\n"
        "for what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):\n"
        "    hard = resource.getrlimit(what)[1]\n"
        "    assert 0 < hard < 2**40\n"
        "    try:\n        resource.setrlimit(what, (hard + 1, hard + 1))\n        assert False\n"
        "    except (ValueError, OSError):\n        pass"
    ),
    "count of forks": (
        "import signal, time\nchildren = 0\n"
        "def fork():\n"
        "    global children\n"
        "    while True:\n"
        "        if os.fork() == 0:\n            signal.pause()\n"
        "        children += 1\n"
        "        assert children < 64\n"
        "assert denied(fork) and children > 3"
    ),
    "count of threads": (
        "wait = threading.Event()\n"
        "def start():\n"
        "    for _ in range(200):\n        threading.Thread(target=wait.wait, daemon=True).start()\n"
        "assert denied(start)\nwait.set()"
    ),
    "memory of one process": "assert denied(lambda: bytearray(2**31))",
    "one big file": (
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "def write():\n    with open('/tmp/x', 'wb', 0) as file:\n"
        "        for _ in range(64): file.write(bytes(2**20))\n"
        "    assert os.path.getsize('/tmp/x') <= 2**24\n    raise OSError\n"
        "assert denied(write)"
    ),
    "many big files": (
        "def write():\n"
        "    for number in range(1000):\n"
        "        with open(f'/tmp/{{number}}', 'wb') as file: file.write(bytes(2**23))\n"
        "assert denied(write)"
    ),
    "memory that is nobody's": "assert denied(lambda: os.memfd_create('x'))",
    "many descriptors": "assert denied(lambda: [os.open('/dev/null', 0) for _ in range(1000)])",
    "terminal": "assert denied(lambda: open('/dev/tty'))",
    "numpy": "import numpy\nassert numpy.arange(4).sum() == 6",
    "threads": "import concurrent.futures as c\nassert list(c.ThreadPoolExecutor(4).map(abs, [-1, 2])) == [1, 2]",
    "atexit": "import atexit\natexit.register(lambda: 1 / 0)",
    "closing stdin and stdout": "import sys\nsys.stdin.close(); sys.stdout.close()\nfor n in (0, 1, 2): os.close(n)",
    "reading stdin": "import sys\nassert sys.stdin.read() == ''",
}

# A candidate and its tests, which fail: only a forged verdict lets these pass.
_TESTS = "\nassert False, 'the tests ran'\n"
# Only the first thing on the way back counts, so a deceiver writes what looks like a token and nothing else.
_GUESSES = """
import re
def tell(value):
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")
    if type(value) is map:
        for _ in value: pass
    if isinstance(value, (bytes, bytearray)):
        for token in re.findall(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", value):
            for number in range(3, 256):
                try: os.write(number, token + b"\\n")
                except OSError: pass
"""

FAILING = {
    "sys.exit(0)": "import sys\nsys.exit(0)" + _TESTS,
    "os._exit(0)": "import os\nos._exit(0)" + _TESTS,
    "raise SystemExit": "raise SystemExit" + _TESTS,
    "print passed": "print('passed'); print('R'); print('ok')" + _TESTS,
    "kill everything": "import os, signal\nos.kill(-1, signal.SIGKILL)\nos._exit(0)" + _TESTS,
    "kill the parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)" + _TESTS,
    "kill itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)" + _TESTS,
    "segfault": "import ctypes\nctypes.string_at(0)" + _TESTS,
    "abort": "import os\nos.abort()" + _TESTS,
    "deep recursion": "import sys\nsys.setrecursionlimit(10**8)\ndef f(x): return sorted([x], key=f)\nf(0)" + _TESTS,
    "recursion": "def f(): f()\nf()" + _TESTS,
    "fork and leave": "import os\nif os.fork(): os._exit(0)" + _TESTS,
    "exec": "import os, sys\nos.execv(sys.executable, ['python', '-c', 'pass'])" + _TESTS,
    "trace": "import sys\nsys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)" + _TESTS,
    "an exception without words": "class E(Exception):\n    def __str__(self): raise E\nraise E" + _TESTS,
    "junk on every descriptor": (
        "import os\nfor n in range(256):\n    try: os.write(n, b'passed\\n' * 1000)\n    except OSError: pass\n"
        "os._exit(0)"
    ),
    "token in frames": (
        "import os, sys" + _GUESSES + "frame = sys._getframe()\n"
        "while frame:\n"
        "    for value in [*frame.f_locals.values(), *frame.f_globals.values(), *frame.f_code.co_consts]: tell(value)\n"
        "    frame = frame.f_back\nos._exit(0)"
    ),
    "token among all objects": (
        "import gc, os" + _GUESSES + "for thing in gc.get_objects():\n"
        "    tell(thing)\n"
        "    try: items = list(thing.values()) if isinstance(thing, dict) else list(thing)\n"
        "    except Exception: continue\n"
        "    for item in items: tell(item)\nos._exit(0)"
    ),
    "token in environment, arguments, stdin": (
        "import os, sys"
        + _GUESSES
        + "for value in [*os.environ.values(), *sys.argv, *sys.orig_argv, sys.stdin.read()]:"
        " tell(value)\nos._exit(0)"
    ),
    "token behind descriptors": (
        "import os" + _GUESSES + "for n in range(256):\n"
        "    os.set_blocking(n, False) if n < 3 else None\n"
        "    try: tell(os.read(n, 4096) if n < 1 or n > 2 else b'')\n    except OSError: pass\nos._exit(0)"
    ),
    "the runner's own functions": (
        "import os, sys\nrunner = sys._getframe(1).f_globals\n"
        "steps = runner.get('steps')\n"
        "try: list(steps())\nexcept BaseException: pass\nos._exit(0)"
    ),
    "lone surrogate": "x = '\ud800'",
    "null byte": "x = '\0'",
}

# Programs that end only because they are ended; a second is enough for each.
ENDLESS = {
    "loop": "while True: pass",
    "sleep": "import time\ntime.sleep(1000)",
    "ignore signals": (
        "import signal, time\n"
        "for n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "time.sleep(1000)"
    ),
    "swallow exceptions": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "threads that never end": (
        "import threading\nthreading.Thread(target=threading.Event().wait).start()\nthreading.Event().wait()"
    ),
    "close everything and sleep": "import os, time\nos.closerange(0, 256)\ntime.sleep(1000)",
    "close everything and loop": "import os\nos.closerange(0, 256)\nwhile True: pass",
    "leave a child with the pipes": "import os, time\nif os.fork() == 0: time.sleep(1000)\ntime.sleep(1000)",
    "print forever": "while True: print('x' * 10000)",
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "a regular expression": "import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')",
}

DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for n in range(256):
            try: os.close(n)
            except OSError: pass
        while True: time.sleep(0.01)
    os._exit(0)
"""
# It prints all the while: a watch that waits for silence would never look.
MEMORY_BOMB = """
import os, threading, time
def chat():
    while True: os.write(2, b"x" * 1000)
threading.Thread(target=chat, daemon=True).start()
for _ in range(4): os.fork()
hold = []
while True:
    hold.append(b"x" * (8 << 20)); time.sleep(0.02)
"""


def harmless(name: str, **facts: object) -> str:
    """Returns a program of `HARMLESS` with facts of the host filled in."""
    body = HARMLESS[name]
    return _DENIED + (body.format(**facts) if "{" in body else body)


def outcomes_of(names: Iterable[str], backend: Backend, folder: Path, secret: str) -> dict[str, Outcome]:
    """Runs the harmless attacks of these names and all on the verdict, and looks at the host afterwards.

    Args:
        names: of `HARMLESS`.
        backend: where they run.
        folder: an empty one of the host's, which they try to reach.
        secret: the content of a file in it, and of what a variable may hold.
    """
    (folder / "secret").write_text(secret)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        facts = {"secret": str(folder / "secret"), "folder": str(folder), "port": server.getsockname()[1]}
        programs = {
            name: harmless(name, **facts | ({"secret": secret} if name == "read environment" else {})) for name in names
        } | FAILING
        found = run_programs(list(programs.values()), limits=Limits(seconds=10.0), backend=backend)
        with pytest.raises(BlockingIOError):  # nobody called
            server.accept()
    assert sorted(path.name for path in folder.iterdir()) == ["secret"]
    return dict(zip(programs, found, strict=True))
