"""Fetching the files of a data set from a real HTTP server: whole, broken off, wrong, of unknown hash, of a commit."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from peft_eval.cli.data import command
from peft_eval.data import upstream
from peft_eval.data.fetch import RECORD_NAME, hash_file
from peft_eval.data.fetch_files import FileSet, RemoteFile, fetch_files
from peft_eval.data.location import LAYOUTS, data_folder
from peft_eval.errors import ConfigError, DataError, PeftEvalError
from tests import tulu_files


@dataclass
class Server:
    """What lies where, after how many bytes each of the next answers breaks off, and what was asked."""

    content: dict[str, bytes]
    breaks: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Returns the class that answers."""
        state = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                state.asked.append((self.path, wanted))
                if self.path not in state.content:
                    self.send_error(404)
                    return
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
                whole = state.content[self.path]
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
                self.send_header("ETag", '"one"')
                self.send_header("Content-Length", str(len(whole) - start))
                self.end_headers()
                body = whole[start:]
                self.wfile.write(body[: state.breaks.pop(0)] if state.breaks else body)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server({"/base/in/a.json": b"[1, 2, 3]" * 100, "/base/b.txt": b"text"})
    http = ThreadingHTTPServer(("127.0.0.1", 0), state.handler())
    state.url = f"http://127.0.0.1:{http.server_port}/base"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def spec(server: Server) -> FileSet:
    files = (
        RemoteFile("deep/a.json", "in/a.json", sha256(server.content["/base/in/a.json"])),
        RemoteFile("b.txt", "b.txt", sha256(server.content["/base/b.txt"])),
    )
    return FileSet(server.url, "c" * 40, files)


def accept(folder: Path) -> None:
    assert (folder / "deep" / "a.json").is_file()


def visible(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_all_files_appear_at_once_with_a_record(server: Server, spec: FileSet, tmp_path: Path):
    record, new = fetch_files(spec, tmp_path / "data", check=accept)
    assert new and record.files == 2
    assert visible(tmp_path / "data") == ["b.txt", "deep/a.json", RECORD_NAME]
    assert json.loads((tmp_path / "data" / RECORD_NAME).read_text())["commit"] == "c" * 40
    assert sorted(path.name for path in tmp_path.iterdir()) == [".data.lock", "data"]
    assert fetch_files(spec, tmp_path / "data", check=accept) == (record, False)
    assert len(server.asked) == 2


def test_a_fetch_that_broke_off_goes_on_with_the_file_it_was_at(server: Server, spec: FileSet, tmp_path: Path):
    files = tuple(reversed(spec.files))  # the small one first
    server.breaks = [4, *[100] * 4]
    with pytest.raises(DataError, match="400 bytes are kept"):
        fetch_files(replace(spec, files=files), tmp_path / "data", check=accept)
    assert not (tmp_path / "data").exists()
    server.asked.clear()
    assert fetch_files(replace(spec, files=files), tmp_path / "data", check=accept)[1]
    assert server.asked == [("/base/in/a.json", "bytes=400-")]


def test_a_wrong_hash_is_refused_and_the_file_fetched_anew(server: Server, spec: FileSet, tmp_path: Path):
    good = server.content["/base/b.txt"]
    server.content["/base/b.txt"] = b"other"
    with pytest.raises(DataError, match=rf"b\.txt: its sha256 is {sha256(b'other')}, expected was {sha256(good)}"):
        fetch_files(spec, tmp_path / "data", check=accept)
    server.content["/base/b.txt"] = good
    assert fetch_files(spec, tmp_path / "data", check=accept)[1]


def test_a_missing_file(server: Server, spec: FileSet, tmp_path: Path):
    del server.content["/base/b.txt"]
    with pytest.raises(DataError, match=r"/base/b\.txt: the server answers 404.*--url"):
        fetch_files(spec, tmp_path / "data", check=accept)


def test_files_without_a_known_hash(server: Server, spec: FileSet, tmp_path: Path):
    unknown = replace(spec, files=(spec.files[0], RemoteFile("b.txt", "b.txt")))
    with pytest.raises(DataError, match=r"no hash is known of b\.txt .*--sha256 FILE=HASH.*--trust-first-download"):
        fetch_files(unknown, tmp_path / "data", check=accept)
    assert server.asked == []
    with pytest.raises(DataError, match="expected was 0000"):
        fetch_files(unknown, tmp_path / "data", check=accept, given={"b.txt": "0" * 64})
    assert fetch_files(unknown, tmp_path / "one", check=accept, given={"b.txt": sha256(b"text")})[1]
    assert fetch_files(unknown, tmp_path / "data", check=accept, trust_first_download=True)[1]
    assert json.loads(hash_file(tmp_path / "data").read_text()) == {f"{'c' * 40}:b.txt": sha256(b"text")}
    (tmp_path / "data").rename(tmp_path / "away")
    server.content["/base/b.txt"] = b"changed"
    with pytest.raises(DataError, match=f"expected was {sha256(b'text')}"):
        fetch_files(unknown, tmp_path / "data", check=accept, trust_first_download=True)
    with pytest.raises(ConfigError, match=r"unknown file 'c\.txt'.*b\.txt"):
        fetch_files(unknown, tmp_path / "data", check=accept, given={"c.txt": "0" * 64})


def test_a_file_of_unknown_hash_is_held_against_the_commit(server: Server, spec: FileSet, tmp_path: Path):
    repository = tmp_path / "upstream"
    repository.mkdir()
    (repository / "b.txt").write_bytes(b"text")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(b'large')}\nsize 5\n"
    (repository / "large.bin").write_text(pointer)  # what git itself keeps of a file in LFS
    server.content["/base/large.bin"] = b"large"
    run = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "-C", str(repository)]
    for arguments in (
        ["init", "-q"],
        ["config", "uploadpack.allowFilter", "true"],
        ["config", "uploadpack.allowAnySHA1InWant", "true"],
        ["add", "b.txt", "large.bin"],
        ["commit", "-q", "-m", "one"],
    ):
        subprocess.run([*run, *arguments], check=True)
    commit = subprocess.run([*run, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    files = (RemoteFile("b.txt", "b.txt"), RemoteFile("large.bin", "large.bin"))
    pinned = FileSet(server.url, commit, files, repository=repository.as_uri())
    assert fetch_files(pinned, tmp_path / "data", check=lambda folder: None)[1]
    for name, before in (("large.bin", b"large"), ("b.txt", b"text")):
        server.content[f"/base/{name}"] = b"other"
        with pytest.raises(DataError, match=f"{name}: it is not the file of commit {commit[:12]}"):
            fetch_files(pinned, tmp_path / f"other-{name}", check=lambda folder: None)
        server.content[f"/base/{name}"] = before


def test_content_that_fails_the_check_is_not_kept(server: Server, spec: FileSet, tmp_path: Path):
    def refuse(folder: Path) -> None:
        raise DataError("not the data", place="x")

    with pytest.raises(DataError, match="not the data"):
        fetch_files(spec, tmp_path / "data", check=refuse)
    assert [path.name for path in tmp_path.iterdir()] == [".data.lock"]


def test_a_folder_of_the_users_is_left_alone(server: Server, spec: FileSet, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="not empty and was not fetched"):
        fetch_files(spec, tmp_path / "data", check=accept)
    assert visible(tmp_path / "data") == ["mine.txt"]


def test_the_command_makes_a_folder_that_suites_find(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("peft_eval.data.location.user_cache_path", lambda app: tmp_path / "cache")
    made = tulu_files.gsm8k(tmp_path / "made") / "test.jsonl"
    for part in ("train", "test"):
        server.content[f"/base/grade_school_math/data/{part}.jsonl"] = made.read_bytes()
    hashes = [f"--sha256={part}.jsonl={sha256(made.read_bytes())}" for part in ("train", "test")]
    monkeypatch.setitem(
        upstream.FILE_SETS,
        "gsm8k",
        replace(
            upstream.FILE_SETS["gsm8k"],
            files=tuple(replace(one, sha256=None) for one in upstream.FILE_SETS["gsm8k"].files),
        ),
    )
    runner = CliRunner()
    wrong = runner.invoke(command, ["get", "gsm8k", "--url", server.url, *hashes])
    assert isinstance(wrong.exception, PeftEvalError) and "6 rows, expected were 8792" in str(wrong.exception)
    monkeypatch.setitem(upstream._ROWS, "gsm8k", (6, upstream._ROWS["gsm8k"][1]))
    done = runner.invoke(command, ["get", "gsm8k", "--url", server.url, *hashes])
    assert done.exit_code == 0, done.output
    assert "2 files, commit 3101c7d50724" in done.output
    assert data_folder("gsm8k") == tmp_path / "cache" / "gsm8k"
    unnamed = runner.invoke(command, ["get", "gsm8k", "--sha256", "0" * 64])
    assert isinstance(unnamed.exception, ConfigError) and "write FILE=HASH" in str(unnamed.exception)


def test_every_data_set_has_an_address_and_a_command():
    names = {*upstream.FILE_SETS, "mmlu", "superni"}
    assert names == set(LAYOUTS) == set(command.commands["get"].commands)
    for spec in (*upstream.FILE_SETS.values(), upstream.MMLU_ARCHIVE):
        assert re.fullmatch("[0-9a-f]{40}", spec.commit)
        assert spec.commit in (spec.base if isinstance(spec, FileSet) else spec.url)


@pytest.mark.parametrize("name", sorted({*upstream.FILE_SETS, "mmlu"} - {"toxigen", "tydiqa"}))
def test_the_pinned_hashes_and_counts_are_those_of_the_real_files(name: str, shared_data: Path, tmp_path: Path):
    folder = shared_data / name
    if name == "mmlu":
        folder = tmp_path
        for ours, theirs in (("test", "test"), ("dev", "dev_header_index_format")):
            (tmp_path / ours).symlink_to(shared_data / "mmlu" / theirs)
    upstream.check_data(name, folder)
    for file in upstream.FILE_SETS[name].files if name != "mmlu" else ():
        assert file.sha256 in (None, sha256((folder / file.path).read_bytes()))


@pytest.mark.parametrize("name", ["mmlu", "bbh", "gsm8k", "tydiqa"])
def test_other_data_is_refused(name: str, tmp_path: Path):
    make: Callable[[Path], Path] = {
        "mmlu": tulu_files.mmlu,
        "bbh": tulu_files.big_bench_hard,
        "gsm8k": tulu_files.gsm8k,
        "tydiqa": tulu_files.tydiqa_official,
    }[name]
    folder = make(tmp_path / "data")
    if name == "gsm8k":
        (folder / "train.jsonl").write_bytes((folder / "test.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"\d+ rows, expected were \d+"):
        upstream.check_data(name, folder)
