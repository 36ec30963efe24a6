"""Measures a zoo under load: listing and searching 10,000 entries, and pulling and pushing against a plain copy.

    python scripts/bench_zoo.py [--entries 10000] [--megabytes 512] [--folder DIR]

Each figure is the best of several turns, since what else runs on a machine only ever adds. A plain copy is shutil's
copyfile of each file and a flush to the disk; over HTTP it is a client that writes to a file what it reads, then
flushes. A pull hashes every byte besides, and flushes as well.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
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
    python = best(lambda: run([sys.executable, "-c", "import click"]))
    print(f"{'python -c import click':<34}{python:6.3f} s")
    environment = {**os.environ, ENVIRONMENT_VARIABLE: str(folder)}
    for words in (["list"], ["list", "--json"], ["search", "lora", "rank"], ["search", "checkpoint-9999"]):
        seconds = best(lambda words=words: run([*COMMAND, *words], environment))
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


def best(action: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Returns the least seconds of several turns."""
    found = []
    for _ in range(TURNS):
        before()
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return min(found)


def bench_transfer(work: Path, megabytes: int) -> None:
    """Times pull and push of a checkpoint of random bytes beside plain copies of the same files."""
    source = work / "source"
    folder = write_version(source, megabytes)
    copy = work / "copy"
    print(f"\n{megabytes} MB in {FILES} files; best of {TURNS}")

    def again(target: Path) -> Callable[[], None]:
        return lambda: shutil.rmtree(target, ignore_errors=True)

    plain = best(lambda: copied(folder, copy), again(copy))
    told("a plain copy", plain, megabytes)
    target = work / "pulled"
    seconds = best(lambda: list(pull(str(source), ["large"], FolderZoo(target))), again(target))
    told("zoo pull from a folder", seconds, megabytes, plain)
    place = FolderZoo(source).place("large")
    assert place is not None
    seconds = best(lambda: list(push([place], str(target))), again(target))
    told("zoo push to a folder", seconds, megabytes, plain)
    handler = functools.partial(Quiet, directory=str(source))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    plain = best(lambda: downloaded(address, source, folder, copy), again(copy))
    told("a plain download (loopback)", plain, megabytes)
    seconds = best(lambda: list(pull(address, ["large"], FolderZoo(target))), again(target))
    told("zoo pull over HTTP (loopback)", seconds, megabytes, plain)
    server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


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


def told(name: str, seconds: float, megabytes: int, plain: float | None = None) -> None:
    ratio = f", {plain / seconds:.2f} of the plain copy's speed" if plain else ""
    print(f"{name:<34}{seconds:6.3f} s, {megabytes / seconds:7,.0f} MB/s{ratio}")


if __name__ == "__main__":
    main()
