"""Fetching from a real HTTP server: whole, broken off, wrong, hostile, and two at once."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from peft_eval.cli.data import command
from peft_eval.data.fetch import RECORD_NAME, ArchiveSpec, fetch, hash_file
from peft_eval.data.superni.official import OFFICIAL_ARCHIVE, check_official
from peft_eval.data.superni.reader import read_tasks
from peft_eval.data.superni.tracks import official_test_tasks
from peft_eval.data.unpack import UnpackLimits, unpack
from peft_eval.errors import DataError, PeftEvalError


@dataclass
class Server:
    """What the server does, and what was asked of it.

    Attributes:
        content: the archive.
        breaks: after how many bytes each of the next answers breaks off.
        status: answered instead of the content, if not 200.
        etag: sent with the content, None for none.
        ranges: whether it answers ranges.
    """

    content: bytes = b""
    breaks: list[int] = field(default_factory=list)
    status: int = 200
    etag: str | None = '"first"'
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0
    url: str = ""


def handler(state: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = 0
            if wanted and state.ranges and self.headers.get("If-Range") == state.etag:
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.breaks:
                body = body[: state.breaks.pop(0)]
            self.wfile.write(body)
            state.sent += len(body)
            self.wfile.flush()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler(state))
    state.url = f"http://127.0.0.1:{http.server_port}/archive.tar.gz"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def archive(files: dict[str, bytes | tarfile.TarInfo], root: str = "repo-abc/") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(root + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


# Random bytes do not compress, so that the archive is long enough to break off in the middle.
NOISE = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(200)) * 40
FILES = {"tasks/a.json": b"{}", "splits/default/train_tasks.txt": b"a\n", "README.md": b"no", "src/x.py": b"no"}
GOOD = archive({**FILES, "tasks/noise.json": NOISE})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def accept(folder: Path) -> None:
    assert (folder / "tasks").is_dir()


@pytest.fixture
def get(server: Server, tmp_path: Path) -> Callable:
    server.content = GOOD

    def get(sha: str | None = None, trust: bool = False, commit: str = "c" * 40, check: Callable = accept):
        spec = ArchiveSpec(server.url, commit, sha, ("tasks", "splits"))
        return fetch(spec, tmp_path / "data", check=check, trust_first_download=trust)

    return get


def visible(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


WHOLE = ["fetched.json", "splits/default/train_tasks.txt", "tasks/a.json", "tasks/noise.json"]


def test_a_whole_fetch(get: Callable, server: Server, tmp_path: Path) -> None:
    record, new = get(sha256(GOOD))
    assert new and record.files == 3
    assert visible(tmp_path / "data") == WHOLE
    assert (tmp_path / "data" / "tasks" / "noise.json").read_bytes() == NOISE
    written = json.loads((tmp_path / "data" / RECORD_NAME).read_text())
    assert written == {"url": server.url, "commit": "c" * 40, "sha256": sha256(GOOD), "files": 3}
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("data", ".data.lock")] == []


def test_what_is_there_is_not_fetched_again(get: Callable, server: Server) -> None:
    get(sha256(GOOD))
    assert get(sha256(GOOD))[1] is False
    assert len(server.asked) == 1
    with pytest.raises(DataError, match="expected was 0000"):
        get("0" * 64)


def test_a_server_that_dies_midway_is_asked_for_the_rest(get: Callable, server: Server, tmp_path: Path) -> None:
    server.breaks = [1000, 2000]
    get(sha256(GOOD))
    assert server.asked == [None, "bytes=1000-", "bytes=3000-"]
    assert server.sent == len(GOOD)
    assert visible(tmp_path / "data") == WHOLE


def test_a_fetch_that_failed_goes_on_in_the_next_run(get: Callable, server: Server, tmp_path: Path) -> None:
    server.breaks = [500] * 4
    with pytest.raises(DataError, match=r"does not get through .* 2000 bytes are kept.*run the same command again"):
        get(sha256(GOOD))
    assert not (tmp_path / "data").exists()
    get(sha256(GOOD))
    assert server.asked[-1] == "bytes=2000-"
    assert server.sent == len(GOOD)


@pytest.mark.parametrize("change", ["etag", "none", "weak", "ranges"])
def test_a_part_of_what_may_be_another_file_is_not_used(get: Callable, server: Server, change: str) -> None:
    server.etag = {"none": None, "weak": 'W/"first"'}.get(change, '"first"')
    server.content = GOOD[:100] + bytes(len(GOOD))
    server.breaks = [500] * 4
    with pytest.raises(DataError, match="does not get through"):
        get(sha256(GOOD))
    server.content, server.ranges = GOOD, change != "ranges"
    server.etag = {"none": None, "weak": 'W/"first"', "etag": '"second"'}.get(change, '"first"')
    assert get(sha256(GOOD))[1]


def test_a_complete_part_is_taken_as_it_is(get: Callable, server: Server, tmp_path: Path) -> None:
    part = tmp_path / f".data-{'c' * 12}.tar.gz.part"
    part.write_bytes(GOOD)
    part.with_name(part.name + ".json").write_text(json.dumps(server.etag))
    get(sha256(GOOD))
    assert (server.asked, server.sent) == ([f"bytes={len(GOOD)}-"], 0)


def test_a_wrong_hash(get: Callable, server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"sha256 is {sha256(GOOD)}, expected was {'0' * 64}"):
        get("0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == [".data.lock"]


def test_without_a_known_hash_the_first_download_has_to_be_trusted(
    get: Callable, server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"--sha256.*--trust-first-download"):
        get()
    assert server.asked == []
    get(trust=True)
    kept = hash_file(tmp_path / "data")
    assert json.loads(kept.read_text()) == {"c" * 40: sha256(GOOD)}
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert get()[1]  # its hash is known now
    (tmp_path / "data").rename(tmp_path / "elsewhere2")
    server.content = archive({**FILES, "tasks/b.json": b"changed"})
    for trust in (False, True):
        with pytest.raises(DataError, match=f"expected was {sha256(GOOD)}"):
            get(trust=trust)
    kept.write_text("[")
    with pytest.raises(DataError, match="not valid JSON"):
        get()


def test_without_a_known_hash_the_commit_proves_the_files(server: Server, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream"
    for name, content in FILES.items():
        (upstream / name).parent.mkdir(parents=True, exist_ok=True)
        (upstream / name).write_bytes(content)
    for step in (["init", "-q"], ["config", "uploadpack.allowFilter", "true"], ["add", "-A"]):
        subprocess.run(["git", "-C", upstream, *step], check=True)
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    subprocess.run(["git", "-C", upstream, *identity, "commit", "-q", "-m", "data"], check=True)
    head = subprocess.run(["git", "-C", upstream, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    spec = ArchiveSpec(server.url, head.stdout.strip(), None, ("tasks", "splits"), upstream.as_uri())

    server.content = archive({**FILES, "tasks/a.json": b"[]"})
    with pytest.raises(DataError, match=r"not those of the pinned commit: 1 changed \(tasks/a.json\)"):
        fetch(spec, tmp_path / "data", check=accept)
    assert not (tmp_path / "data").exists()
    server.content = archive(FILES)
    record, new = fetch(spec, tmp_path / "data", check=accept)
    assert new and record.files == 2 and (tmp_path / "data" / "tasks" / "a.json").read_bytes() == b"{}"
    assert json.loads(hash_file(tmp_path / "data").read_text()) == {spec.commit: sha256(server.content)}


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_server_that_refuses(get: Callable, server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(DataError, match=rf"{server.url}: the server answers {status}.*--url"):
        get(sha256(GOOD))


def test_no_server(tmp_path: Path) -> None:
    for url, message in (("http://127.0.0.1:9/x.tar.gz", "does not get through"), ("ftp://x/y", "not an address")):
        spec = ArchiveSpec(url, "c" * 40, "0" * 64, ("tasks",))
        with pytest.raises(DataError, match=message):
            fetch(spec, tmp_path / "data", check=accept)


def test_a_newer_commit_replaces_what_was_fetched(get: Callable, server: Server, tmp_path: Path) -> None:
    get(sha256(GOOD))
    server.content = archive({"tasks/new.json": b"{}"})
    assert get(sha256(server.content), commit="d" * 40)[1]
    assert visible(tmp_path / "data") == ["fetched.json", "tasks/new.json"]


def test_a_folder_of_the_users_is_left_alone(get: Callable, server: Server, tmp_path: Path) -> None:
    mine = tmp_path / "data" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("x")
    with pytest.raises(DataError, match="not empty and was not fetched"):
        get(sha256(GOOD))
    assert mine.read_text() == "x"
    mine.unlink()
    assert get(sha256(GOOD))[1]


def test_content_that_fails_the_check_is_not_put_in_place(get: Callable, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise DataError("not the data", place="x")

    with pytest.raises(DataError, match="not the data"):
        get(None, trust=True, check=refuse)
    assert [path.name for path in tmp_path.iterdir()] == [".data.lock"]


def test_two_fetches_at_once_download_once(get: Callable, server: Server) -> None:
    results = []
    threads = [threading.Thread(target=lambda: results.append(get(sha256(GOOD))[1])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, True]
    assert len(server.asked) == 1


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


HOSTILE = {
    "up": archive({"tasks/../../../evil": b"x"}),
    "up_unwanted": archive({"docs/../../evil": b"x"}),
    "absolute": archive({"evil": b"x"}, root="/"),
    "backslash": archive({"tasks/..\\evil": b"x"}),
    "symlink": archive({"l": special("repo/tasks/l", tarfile.SYMTYPE, "/etc")}),
    "hardlink": archive({"l": special("repo/tasks/l", tarfile.LNKTYPE, "repo/tasks/a.json")}),
    "device": archive({"d": special("repo/tasks/d", tarfile.CHRTYPE)}),
    "fifo": archive({"d": special("repo/splits/d", tarfile.FIFOTYPE)}),
    "root_link": archive({"l": special("repo/tasks", tarfile.SYMTYPE, "/tmp"), "tasks/evil": b"x"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused(get: Callable, server: Server, tmp_path: Path, name: str) -> None:
    server.content = HOSTILE[name]
    with pytest.raises(DataError, match="the archive is refused"):
        get(sha256(server.content))
    assert [path.name for path in tmp_path.iterdir()] == [".data.lock"]
    assert not any(path.name == "evil" for path in tmp_path.parent.rglob("*"))


def test_the_same_path_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(archive({"tasks/a": b"1", "tasks/./a": b"2"}))
    with pytest.raises(DataError, match="in it twice"):
        unpack(path, tmp_path / "out", ["tasks"])


@pytest.mark.parametrize(
    "limits", [UnpackLimits(files=1), UnpackLimits(file_bytes=len(NOISE) - 1), UnpackLimits(total_bytes=len(NOISE))]
)
def test_more_than_data_can_be_is_refused(tmp_path: Path, limits: UnpackLimits) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(archive({"tasks/a.json": b"{}", "tasks/noise.json": NOISE}))
    with pytest.raises(DataError, match=r"too many or too large files, seen at 'repo-abc/tasks/noise\.json'"):
        unpack(path, tmp_path / "out", ["tasks"], limits)


@pytest.mark.parametrize("content", [GOOD[: len(GOOD) // 2], b"<html>not found</html>", b""])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"not a whole \.tar\.gz"):
        unpack(path, tmp_path / "out", ["tasks"])


def test_no_space_is_said(get: Callable, tmp_path: Path, monkeypatch) -> None:
    import errno

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("peft_eval.data.unpack.shutil.copyfileobj", full)
    with pytest.raises(DataError, match=r"no space left \(\d+ MiB free\).*--output"):
        get(sha256(GOOD))
    assert not (tmp_path / "data").exists()
    monkeypatch.undo()
    assert get(sha256(GOOD))[1]


@pytest.fixture
def official(tiny_superni) -> dict[str, bytes]:
    for track in ("default", "xlingual"):
        names = [name for names in official_test_tasks(track).values() for name in names]
        tiny_superni.split("test", names, track)
        for category, members in official_test_tasks(track).items():
            for name in members:
                tiny_superni.add(name, category, instances=1)
    tiny_superni.split("train", ["task1_made"])
    return {
        str(path.relative_to(tiny_superni.folder)): path.read_bytes()
        for path in tiny_superni.folder.rglob("*")
        if path.is_file()
    }


def test_the_command(server: Server, official: dict[str, bytes], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("peft_eval.data.location.user_cache_path", lambda name: tmp_path / "cache")
    nowhere = replace(OFFICIAL_ARCHIVE, repository=(tmp_path / "nowhere").as_uri())
    monkeypatch.setattr("peft_eval.data.superni.official.OFFICIAL_ARCHIVE", nowhere)
    server.content = archive(official)
    runner = CliRunner()
    done = runner.invoke(command, ["get", "superni", "--url", server.url])
    assert isinstance(done.exception, PeftEvalError) and "--trust-first-download" in str(done.exception)
    done = runner.invoke(command, ["get", "superni", "--url", server.url, "--trust-first-download"])
    assert done.exit_code == 0, done.output
    assert OFFICIAL_ARCHIVE.commit[:12] in done.output and sha256(server.content) in done.output
    folder = tmp_path / "cache" / "superni"
    assert len(read_tasks(folder, ["task199_mnli_classification"])) == 1
    again = runner.invoke(command, ["get", "superni", "--url", server.url])
    assert "already there" in again.output
    other = str(tmp_path / "other")
    done = runner.invoke(
        command, ["get", "superni", "--output", other, "--url", server.url, "--sha256", sha256(server.content).upper()]
    )
    assert f"--data superni:{other}" in done.output


def test_other_versions_of_the_data_are_refused(official: dict[str, bytes], tiny_superni) -> None:
    check_official(tiny_superni.folder)
    tiny_superni.split("test", ["task199_mnli_classification", "task1_made"])
    (tiny_superni.folder / "tasks" / "task534_farstail_entailment.json").unlink()
    with pytest.raises(PeftEvalError) as caught:
        check_official(tiny_superni.folder)
    first, second = str(caught.value).splitlines()
    assert "2 tasks, 1 of them among the 119 official" in first
    assert "xlingual" in second and "task534_farstail_entailment" in second


def test_the_pinned_address_names_the_commit() -> None:
    assert OFFICIAL_ARCHIVE.commit in OFFICIAL_ARCHIVE.url
    assert re.fullmatch("[0-9a-f]{40}", OFFICIAL_ARCHIVE.commit)
    assert replace(OFFICIAL_ARCHIVE, url="x").commit == OFFICIAL_ARCHIVE.commit
