"""Carries hostile cases through the front doors, each in a forked process, and writes down what happened.

    python -m tests.hostile.front_doors WORK BASE > results.jsonl

A fork after the imports costs little, so that each case has a process of its own: its exit code, its words, its
processor time, its largest memory, and what changed around it are its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from tests.hostile.corpus import CASES, Case
from tests.hostile.corpus.cases import adapter

WALL_SECONDS = 60
_IMPORTED_BEFORE = (
    "peft_eval.cli.merge", "peft_eval.cli.data", "peft_eval.merging.export", "peft_eval.doctor.checkpoint",
    "transformers.models.llama.modeling_llama", "requests", "pyarrow.parquet",
)  # fmt: skip
SOUND = Case("sound_adapter", "checkpoint", "", lambda folder: adapter(folder) and None)
READERS = {
    "mmlu": ("peft_eval.data.mmlu.reader", "read_questions"),
    "gsm8k": ("peft_eval.data.gsm8k", "read_problems"),
    "human_eval": ("peft_eval.data.human_eval", "read_problems"),
    "bbh": ("peft_eval.data.bbh", "read_examples"),
    "tydiqa": ("peft_eval.data.tydiqa", "read_part"),
    "alpaca_eval": ("peft_eval.data.alpaca_eval", "read_references"),
    "truthfulqa": ("peft_eval.data.truthfulqa", "read_questions"),
}


def snapshot(folder: Path, but: Path) -> dict[str, tuple[int, int, int]]:
    """Returns mode, size and time of all that is below a folder, except below another."""
    found: dict[str, tuple[int, int, int]] = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(root, name) != but]
        for name in [*folders, *(name for name in files if name != ".output.lock")]:
            status = Path(root, name).lstat()
            found[str(Path(root, name))] = (
                status.st_mode,
                status.st_size,
                0 if name in folders else status.st_mtime_ns,
            )
    return found


def carry(case: Case, work: Path, base: Path) -> dict[str, Any]:
    """Makes a case, carries it through its door in a forked process, and returns what was seen."""
    place = work / case.name
    hostile, output = place / "hostile", place / "output"
    if case.door == "base":
        shutil.copytree(base, hostile)
    else:
        hostile.mkdir(parents=True)
    (place / "secret").write_text("a secret beside the folder")
    made = case.make(hostile)
    for file in ("adapter_config.json", "peft_eval.json"):
        _name_the_base(hostile / file, base)
    before = snapshot(place, output)
    said = work / "said"
    begun = time.monotonic()
    with served(made if case.door == "archive" else b"") as address:
        child = os.fork()
        if child == 0:
            _in_the_child(case, made, hostile, output, base, address, said)
        timer = threading.Timer(WALL_SECONDS, os.kill, (child, signal.SIGKILL))
        timer.start()
        _, status, usage = os.wait4(child, 0)
        timer.cancel()
    after = snapshot(place, output)
    return {
        "name": case.name,
        "exit": os.waitstatus_to_exitcode(status),
        "said": said.read_text(encoding="utf-8", errors="replace"),
        "wall_seconds": round(time.monotonic() - begun, 2),
        "seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "megabytes": usage.ru_maxrss // 1024,
        "changed": sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)),
        "left": sorted(path.name for path in output.rglob("*")) if output.exists() else [],
    }


def _in_the_child(case: Case, made: Any, hostile: Path, output: Path, base: Path, address: str, said: Path) -> None:
    words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(words, 1)
    os.dup2(words, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(hostile.parent)
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
    code = 99
    try:
        code = _through(case, made, hostile, output, base, address)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 98
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _through(case: Case, made: Any, hostile: Path, output: Path, base: Path, address: str) -> int:
    from peft_eval.cli.main import cli, errors_as_one_line

    if case.door == "suite":
        reader, folder, *arguments = made
        module, name = READERS[reader]
        with errors_as_one_line():
            getattr(importlib.import_module(module), name)(folder, *arguments)
        return 0
    where = ["--output", str(output)]
    if case.door == "checkpoint":
        cli.main(["merge", str(hostile), *where])
    elif case.door == "base":
        sound = output.parent.parent / SOUND.name / "hostile"
        cli.main(["merge", str(sound), "--base", str(hostile), *where])
    elif case.door in ("messages", "superni"):
        cli.main(["data", "show", f"{case.door}:{made or hostile}"])
    elif case.door == "archive":
        content = made[0] if isinstance(made, tuple) else made
        digest = hashlib.sha256(content).hexdigest()
        cli.main(["data", "get", "superni", "--url", address, "--sha256", digest, *where])
    else:
        stands_for = {"BASE": str(base), "OUTPUT": str(output)}
        cli.main([stands_for.get(word, word) for word in made])
    return 97


def _name_the_base(path: Path, base: Path) -> None:
    """Puts the base's path where a sound configuration says BASE."""
    if path.is_file() and not path.is_symlink() and path.stat().st_size < 100_000:
        content = path.read_bytes()
        if b'"BASE"' in content:
            path.write_bytes(content.replace(b'"BASE"', json.dumps(str(base)).encode()))


@contextlib.contextmanager
def served(content: Any) -> Iterator[str]:
    """Serves an archive on loopback."""
    body, headers = content if isinstance(content, tuple) else (content, {"Content-Length": str(len(content))})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    if not body:
        yield ""
        return
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/archive.tar.gz"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Carries all cases, or those named after WORK and BASE."""
    work, base, *names = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
    for module in _IMPORTED_BEFORE:
        importlib.import_module(module)
    for case in [SOUND, *CASES.values()]:
        if not names or case is SOUND or case.name in names:
            print(json.dumps(carry(case, work, base)), flush=True)


if __name__ == "__main__":
    main()
