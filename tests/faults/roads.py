"""The roads that faults are tried on: a command that can be run again until it is through, and what it comes to."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from peft_eval.cli.main import cli
from tests.faults.processes import commands_forked, finished, start_server_of_processes, started

STEPS = 12
QUESTIONS = 2
TASK = "mini_unseen_table_lookup"


@dataclass(frozen=True)
class Road:
    """A command.

    Attributes:
        name: what it is called in the table.
        run: runs it on an output folder; also again, after whatever happened, as a user would.
        result: what it came to, to be compared.
        free_bytes: sizes of disks that are too small for it, at several moments of its work.
        some_seconds: when it is at work.
        killed_alone: the kill does not reach what the command started, which has to end by itself.
    """

    name: str
    run: Callable[[Path], None]
    result: Callable[[Path], Any]
    free_bytes: tuple[int, ...]
    some_seconds: float = 1.0
    killed_alone: bool = False


def prepare(place: Path) -> None:
    """Makes what the roads read, two checkpoints, in processes of their own: this one must not compute before it forks.

    The cache is a fresh one.
    """
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    for seed in (1, 2):
        code, said = finished(started(trained(place, seed), place / f"made-{seed}"))
        assert code == 0, said


def trained(place: Path, seed: int = 42) -> Callable[[Path], None]:
    """Returns a function that trains into a folder, going on where there is something to go on from."""

    def run(output: Path) -> None:
        from peft_eval.training.states import UnfinishedRun

        again = "--resume" if UnfinishedRun(output).exists or (output / "peft_eval.json").is_file() else "--overwrite"
        settings = ("--max-steps", str(STEPS), "--save-every-steps", "2", "--batch-size", "4", "--seed", str(seed))
        data = ("--data", "mini", "--tasks", "2", "--instances-per-task", "20", "--set", "rank=2")
        cli.main(["train", "--base", "zoo:base", *data, *settings, "--output", str(output), again])

    return run


def weights(output: Path) -> dict[str, str]:
    """Returns the hashes of a folder's weights, and that its manifest is true."""
    from peft_eval.checkpoint.reading import open_checkpoint

    open_checkpoint(str(output))
    files = sorted(output.glob("*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def train_road(place: Path) -> Road:
    """`peft-eval train`."""
    return Road("train", trained(place), weights, (4096, 40_000, 150_000), 3.0)


def merge_road(place: Path) -> Road:
    """`peft-eval merge`."""

    def run(output: Path) -> None:
        if (output / "peft_eval.json").is_file():
            return  # it is there, and the command would say so
        cli.main(["merge", str(place / "made-1"), "--output", str(output), "--overwrite", "--dtype", "float32"])

    return Road("merge", run, weights, (4096, 1_000_000, 20_000_000), 1.0)


def eval_road(place: Path) -> Road:
    """`peft-eval eval` with several checkpoints, by transformers and peft."""
    return Road("eval", evaluated(place, "--model", "hf", "--device", "cpu"), scores, (4096, 60_000), 4.0)


def eval_vllm_road(place: Path) -> Road:
    """The same in a vLLM engine, whose processes have to end when the command is killed."""
    run = evaluated(place, "--model", "vllm", "--model-args", "dtype=float32")
    return Road("eval vllm", run, scores, (4096, 60_000), 20.0, killed_alone=True)


def evaluated(place: Path, *model: str) -> Callable[[Path], None]:
    """Returns a function that evaluates both checkpoints into a folder."""

    def run(output: Path) -> None:
        named = [word for seed in (1, 2) for word in ("--checkpoint", str(place / f"made-{seed}"))]
        asked = ("--tasks", TASK, "--limit", str(QUESTIONS), "--batch_size", "2", "--gen_kwargs", "max_gen_toks=4")
        cli.main(["eval", *model, *named, *asked, "--output", str(output), "--no-base"])

    return run


def scores(output: Path) -> dict[str, Any]:
    """Returns the newest scores of every checkpoint, and its answers."""
    found: dict[str, Any] = {}
    for file in sorted(output.rglob("results_*.json"), key=lambda path: path.stat().st_mtime_ns):
        table = json.loads(file.read_text(encoding="utf-8"))
        rows = {name: row for name, row in table["results"].items()}
        found[file.parent.name] = {
            name: {key: value for key, value in row.items() if isinstance(value, int | float)}
            for name, row in rows.items()
        }
    assert len(found) == 2, f"{len(found)} of 2 checkpoints have results"
    return found


class _Slow(BaseHTTPRequestHandler):
    """Sends an archive piece by piece, with ranges."""

    content = b""
    pieces = 20
    seconds = 1.0

    def do_GET(self) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        body = self.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        size = max(1, len(self.content) // self.pieces)
        for first in range(0, len(body), size):
            try:
                self.wfile.write(body[first : first + size])
            except OSError:
                return
            time.sleep(self.seconds / self.pieces)

    def log_message(self, *_: object) -> None:
        pass


def archive() -> bytes:
    """Returns an archive of some files that do not compress."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number in range(200):
            content = hashlib.sha512(str(number).encode()).digest() * 16
            member = tarfile.TarInfo(f"root/tasks/{number}.json")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def fetch_road(place: Path) -> Road:
    """What `peft-eval data get` does, from a slow server on loopback."""
    _Slow.content = archive()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    digest = hashlib.sha256(_Slow.content).hexdigest()

    def run(output: Path) -> None:
        from peft_eval.cli.main import errors_as_one_line
        from peft_eval.data.fetch import ArchiveSpec, fetch

        spec = ArchiveSpec(f"http://127.0.0.1:{server.server_port}/a.tar.gz", "c" * 40, digest, ("tasks",))
        with errors_as_one_line():
            fetch(spec, output, check=lambda folder: None)

    return Road("data get", run, tree, (4096, 20_000, 60_000), 0.5)


def tree(output: Path) -> str:
    """Returns one hash over all files of a folder and their names."""
    files = sorted(path for path in output.rglob("*") if path.is_file() and not path.name.startswith("."))
    lines = (f"{path.relative_to(output)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def zoo_add_road(place: Path) -> Road:
    """`peft-eval zoo add`, of two checkpoints one after the other."""

    def run(output: Path) -> None:
        from peft_eval.cli.main import LazyGroup

        for seed in (1, 2):
            words = ["zoo", "add", str(place / f"made-{seed}"), "--name", f"made-{seed}", "--zoo", str(output)]
            super(LazyGroup, cli).main([*words, "--no-probe"], standalone_mode=False)

    return Road("zoo add", _in_one_line(run), zoo_content, (4096, 40_000), 0.1)


def _in_one_line(run: Callable[[Path], None]) -> Callable[[Path], None]:
    def told(output: Path) -> None:
        from peft_eval.cli.main import errors_as_one_line

        with errors_as_one_line():
            run(output)

    return told


def zoo_pull_road(place: Path) -> Road:
    """`peft-eval zoo pull` of two checkpoints from a folder."""
    code, said = finished(started(zoo_add_road(place).run, place / "zoo"))
    assert code == 0, said

    def run(output: Path) -> None:
        cli.main(["zoo", "pull", str(place / "zoo"), "made-1", "made-2", "--zoo", str(output)])

    return Road("zoo pull", run, zoo_content, (4096, 40_000), 0.1)


def zoo_content(output: Path) -> dict[str, Any]:
    """Returns the files of every version that a zoo's index lists."""
    from peft_eval.checkpoint.zoo_index import find_in, read_entries

    found = {}
    for name in read_entries(output):
        place = find_in((output,), name)
        found[place.pinned] = weights(place.folder)
    assert len(found) == 2, f"{sorted(found)} are listed, not two"
    return found


def study_road(place: Path) -> Road:
    """`peft-eval study run` of two cells, each trained and evaluated; its processes are forked, for speed."""
    start_server_of_processes()
    file = place / "study.toml"
    file.write_text(
        f"""
name = "faults"
title = "Faults"
[train]
base = "zoo:base"
data = "mini"
tasks = 2
instances_per_task = 20
max_steps = {STEPS}
batch_size = 4
save_every_steps = 2
[methods.lora]
rank = [2, 4]
[evaluate]
suites = ["{TASK}"]
model = "hf"
limit = {QUESTIONS}
"""
    )

    def run(output: Path) -> None:
        with commands_forked():
            cli.main(["study", "run", str(file), "--store", str(output), "--jobs", "1"])

    return Road("study run", run, cells, (4096, 60_000), 5.0)


def cells(output: Path) -> dict[str, Any]:
    """Returns every cell's weights."""
    found = {path.parent.parent.name: weights(path.parent) for path in sorted(output.rglob("peft_eval.json"))}
    assert len(found) == 2, f"{len(found)} of 2 cells have a checkpoint"
    return found


ROADS: dict[str, Callable[[Path], Road]] = {
    "train": train_road,
    "merge": merge_road,
    "eval": eval_road,
    "eval vllm": eval_vllm_road,
    "data get": fetch_road,
    "zoo add": zoo_add_road,
    "zoo pull": zoo_pull_road,
    "study run": study_road,
}
