"""Measures a zoo under load: listing and searching 10,000 entries, and pulling and pushing against a plain copy.

    python scripts/bench_zoo.py [--entries 10000] [--megabytes 512] [--folder DIR]

Each figure is the best of several turns, since what else runs on a machine only ever adds. A plain copy is shutil's
copyfile of each file and a flush to the disk; over HTTP it is a client that writes to a file what it reads, then
flushes. A pull hashes every byte besides, and flushes as well. The server is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from peft_eval.checkpoint.hashing import file_sha256, weights_sha256
from peft_eval.checkpoint.zoo_index import ENVIRONMENT_VARIABLE
from peft_eval.zoo.folder_zoo import FolderZoo, now
from peft_eval.zoo.records import About, Entry, Index, IndexRow, StoredFile, VersionRecord, version_of
from peft_eval.zoo.transfer import pull, push

TURNS = 5
COMMAND = [sys.executable, "-m", "peft_eval.cli.main", "zoo"]
FILES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as work:
        bench_index(Path(work) / "large", given.entries)
        bench_transfer(Path(work), given.megabytes)


def bench_index(folder: Path, count: int) -> None:
    """Times whole processes of `zoo list` and `zoo search`."""
    write_index(folder, count)
    size = (folder / "index.json").stat().st_size
    print(f"index of {count:,} entries, {size / 1e6:.1f} MB; best of {TURNS}, whole processes, output to a file")
    [python] = best(lambda: run([sys.executable, "-c", "import click"]))
    print(f"{'python -c import click':<34}{python:6.3f} s")
    environment = {**os.environ, ENVIRONMENT_VARIABLE: str(folder)}
    for words in (["list"], ["list", "--json"], ["search", "lora", "rank"], ["search", "checkpoint-9999"]):
        [seconds] = best(lambda words=words: run([*COMMAND, *words], environment))
        print(f"{'zoo ' + ' '.join(words):<34}{seconds:6.3f} s")


def write_index(folder: Path, count: int) -> None:
    """Writes an index without folders behind it."""
    entries = {}
    for number in range(count):
        digest = hashlib.sha256(str(number).encode()).hexdigest()[:12]
        method = ("lora", "ia3", "houlsby", "prefix")[number % 4]
        row = IndexRow(
            folder=f"checkpoint-{number}/{digest}",
            kind="adapter",
            method=method,
            base="meta-llama/Llama-3.2-1B",
            bytes=1_000_000 + number,
            parameters=100_000 + number,
            licence="apache-2.0",
            summary=f"{method} of rank {number % 64} on tasks of kind {number % 100}",
            added=now(),
            scores={"superni_unseen": {"rougeL": (40.0 + number % 10, 0.5), "exact_match": (30.0, 0.5)}},
        )
        entries[f"checkpoint-{number}"] = Entry(latest=digest, versions={digest: row})
    folder.mkdir(parents=True)
    (folder / "index.json").write_text(Index(entries=entries).to_json())


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    with tempfile.TemporaryFile() as output:
        subprocess.run(command, env=environment, stdout=output, check=True)


def best(*actions: Callable[[], object], before: Callable[[], object] = lambda: None) -> list[float]:
    """Returns the least seconds of several turns of each; they alternate, so that a busy spell hits them all."""
    found = [math.inf] * len(actions)
    for _ in range(TURNS):
        for number, action in enumerate(actions):
            before()
            started = time.perf_counter()
            action()
            found[number] = min(found[number], time.perf_counter() - started)
    return found


def bench_transfer(work: Path, megabytes: int) -> None:
    """Times pull and push of a checkpoint of random bytes beside plain copies of the same files."""
    source, target = work / "source", work / "target"
    folder = write_version(source, megabytes)
    place = FolderZoo(source).place("large")
    assert place is not None
    print(f"\n{megabytes} MB in {FILES} files; best of {TURNS}")

    def pulled(address: str) -> None:
        list(pull(address, ["large"], FolderZoo(target)))

    def compared(plain: str, ways: dict[str, Callable[[], object]]) -> None:
        seconds = best(*ways.values(), before=lambda: shutil.rmtree(target, ignore_errors=True))
        for name, one in zip(ways, seconds, strict=True):
            ratio = "" if name == plain else f", {seconds[0] / one:.2f} of the plain way's speed"
            print(f"{name:<34}{one:6.3f} s, {megabytes / one:7,.0f} MB/s{ratio}")

    ways: dict[str, Callable[[], object]] = {
        "a plain copy": lambda: copied(folder, target),
        "zoo pull from a folder": lambda: pulled(str(source)),
        "zoo push to a folder": lambda: list(push([place], str(target))),
    }
    compared("a plain copy", ways)
    with served(source) as address:
        ways = {
            "a plain download (loopback)": lambda: downloaded(address, source, folder, target),
            "zoo pull over HTTP (loopback)": lambda: pulled(address),
        }
        compared("a plain download (loopback)", ways)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves a folder from a process of its own and yields its address."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split("(")[1].split("/)")[0]
    finally:
        server.kill()
        server.wait()


def write_version(source: Path, megabytes: int) -> Path:
    """Writes a checkpoint of random float32 weights into a zoo and returns its folder."""
    import numpy as np
    from safetensors.numpy import save_file

    zoo = FolderZoo(source)
    with zoo.scratch("large") as scratch:
        generator = np.random.default_rng(0)
        for number in range(1, FILES + 1):
            weights = {f"w{number}": generator.random(megabytes * 10**6 // (4 * FILES), dtype=np.float32)}
            save_file(weights, scratch / f"model-{number:05d}-of-{FILES:05d}.safetensors", metadata={"format": "pt"})
        names = {f"w{n}": f"model-{n:05d}-of-{FILES:05d}.safetensors" for n in range(1, FILES + 1)}
        (scratch / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
        (scratch / "config.json").write_text('{"model_type": "llama"}')
        files = {
            path.name: StoredFile(bytes=path.stat().st_size, sha256=file_sha256(path)) for path in scratch.iterdir()
        }
        about = About(kind="full", weights_sha256=weights_sha256(scratch))
        record = VersionRecord(name="large", version=version_of(files), added=now(), about=about, files=files)
        return zoo.put(scratch, record)[0].folder


def copied(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        shutil.copyfile(path, target / path.name)
        flushed(target / path.name)


def downloaded(address: str, zoo: Path, source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        with (
            urllib.request.urlopen(f"{address}/{path.relative_to(zoo)}") as answer,
            (target / path.name).open("wb") as file,
        ):
            shutil.copyfileobj(answer, file, 1 << 20)
        flushed(target / path.name)


def flushed(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
