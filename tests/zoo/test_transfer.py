"""Pull and push: folders, fsspec's protocols, and a real HTTP server that breaks off."""

from __future__ import annotations

import builtins
import functools
import hashlib
import http.server
import json
import re
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest

from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.checkpoint.zoo_index import find, forget_lookups, user_zoo
from peft_eval.errors import CheckpointError, ConfigError
from peft_eval.zoo import http_read
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.remote import Remote, described_elsewhere, entries_of
from peft_eval.zoo.transfer import pull, push
from tests.zoo.conftest import index_of


@pytest.fixture
def other(tmp_path: Path) -> FolderZoo:
    """Another, empty zoo."""
    return FolderZoo(tmp_path / "other")


@pytest.fixture
def memory() -> Iterator[str]:
    """An address of fsspec's memory file system, emptied afterwards."""
    yield "memory://bucket/zoo"
    fsspec.filesystem("memory").store.clear()


def same_files(left: Path, right: Path) -> bool:
    """Tells whether two folders hold the same."""
    names = sorted(path.name for path in left.iterdir())
    return names == sorted(path.name for path in right.iterdir()) and all(
        (left / name).read_bytes() == (right / name).read_bytes() for name in names
    )


def test_to_a_folder_and_back(filled: FolderZoo, other: FolderZoo) -> None:
    place = find("zoo:tiny-lora")
    assert [line.split(":")[2].strip() for line in push([place], str(other.folder))] == [
        f"sent, {other.folder / 'tiny-lora' / place.version}"
    ]
    assert "already there" in next(push([place], str(other.folder)))
    shutil.rmtree(filled.folder)
    forget_lookups()
    [(back, is_new)] = pull(str(other.folder), ["tiny-lora@v1"], filled)
    assert is_new and back.version == place.version
    assert same_files(back.folder, other.folder / "tiny-lora" / place.version)


def test_to_an_address_and_back(filled: FolderZoo, other: FolderZoo, memory: str) -> None:
    places = [find("zoo:tiny-base"), find("zoo:tiny-lora")]
    assert ["sent" in line for line in push(places, memory)] == [True, True]
    assert "already there" in next(push(places, memory))
    assert set(entries_of(memory)) == {"tiny-base", "tiny-lora"}
    record, entry = described_elsewhere(memory, "tiny-lora@v1")
    assert record.version == places[1].version == entry["latest"]
    for (place, is_new), mine in zip(pull(memory, ["tiny-base", "tiny-lora"], other), places, strict=True):
        assert is_new and same_files(place.folder, mine.folder)
    assert index_of(other)["entries"]["tiny-lora"]["tags"] == {"v1": places[1].version}


def test_a_stopped_push_goes_on(filled: FolderZoo, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, send, sent = find("zoo:tiny-lora"), Remote.send, []

    def stops(self: Remote, source: Path, path: str) -> None:
        if len(sent) == 2:
            raise CheckpointError("the line is cut")
        sent.append(path)
        send(self, source, path)

    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="the line is cut"):
        patch.setattr(Remote, "send", stops)
        list(push([place], memory))
    assert Remote(memory).read("index.json") is None  # nobody sees half a version
    again: list[str] = []
    monkeypatch.setattr(Remote, "send", lambda self, source, path: (again.append(path), send(self, source, path)))
    list(push([place], memory))
    assert not set(sent) & set(again) and set(entries_of(memory)) == {"tiny-lora"}


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "README.md"])
def test_a_changed_file_is_refused_and_nothing_is_indexed(filled: FolderZoo, other: FolderZoo, name: str) -> None:
    place = find("zoo:tiny-lora")
    content = bytearray((place.folder / name).read_bytes())
    content[-1] ^= 1
    (place.folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name} is not the file that zoo.json lists"):
        list(pull(str(filled.folder), ["tiny-lora"], other))
    assert other.place("tiny-lora") is None


def test_a_record_that_lies_about_its_version_is_refused(filled: FolderZoo, other: FolderZoo) -> None:
    place = find("zoo:tiny-lora")
    record = json.loads((place.folder / "zoo.json").read_text())
    record["files"]["adapter_config.json"]["sha256"] = "0" * 64
    (place.folder / "zoo.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"its files make version \w+, it says"):
        list(pull(str(filled.folder), ["tiny-lora"], other))


@pytest.mark.parametrize("name", ["../../x.json", "model.py", "/etc/passwd", "sub/x.json", "x.tar.gz"])
def test_a_record_that_names_other_files_is_refused(filled: FolderZoo, other: FolderZoo, name: str) -> None:
    place = find("zoo:tiny-lora")
    record = json.loads((place.folder / "zoo.json").read_text())
    record["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    (place.folder / "zoo.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="is no file that a zoo holds"):
        list(pull(str(filled.folder), ["tiny-lora"], other))


def test_a_link_in_another_zoo_is_refused(filled: FolderZoo, other: FolderZoo) -> None:
    place = find("zoo:tiny-lora")
    (place.folder / "README.md").unlink()
    (place.folder / "README.md").symlink_to("/etc/passwd")
    with pytest.raises(CheckpointError, match="is a symbolic link"):
        list(pull(str(filled.folder), ["tiny-lora"], other))


def test_the_shipped_zoo_is_pulled_from_by_nobody_who_has_it(zoo: FolderZoo, tmp_path: Path) -> None:
    base = find("zoo:base")
    list(push([base], str(tmp_path / "copy")))
    [(place, is_new)] = pull(str(tmp_path / "copy"), ["base"], zoo)
    assert not is_new and place.folder == base.folder


class _Server(http.server.ThreadingHTTPServer):
    breaks_after: int | None = None
    statuses: Sequence[int] = ()
    asked: list[tuple[str, str | None]]


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        self.server.asked.append((path.name, self.headers.get("Range")))
        if self.server.statuses:
            status, *self.server.statuses = self.server.statuses
            self.send_error(status)
            return
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")[1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.breaks_after is not None and path.suffix == ".safetensors":
            body, self.server.breaks_after = body[: self.server.breaks_after], None
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(filled: FolderZoo) -> Iterator[tuple[str, _Server]]:
    """The user's zoo, served over HTTP."""
    serving = _Server(("127.0.0.1", 0), functools.partial(_Handler, directory=str(filled.folder)))
    serving.asked = []
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serving.server_port}", serving
    serving.shutdown()
    serving.server_close()


def test_over_http_a_broken_connection_goes_on(
    server: tuple[str, _Server], filled: FolderZoo, other: FolderZoo
) -> None:
    address, serving = server
    serving.breaks_after = 700
    [(place, is_new)] = pull(address, ["tiny-lora"], other)
    assert is_new and same_files(place.folder, find("zoo:tiny-lora").folder)
    assert ("adapter_model.safetensors", "bytes=700-") in serving.asked


def test_http_is_read_alone(server: tuple[str, _Server], filled: FolderZoo) -> None:
    with pytest.raises(ConfigError, match="can only be read"):
        list(push([find("zoo:tiny-lora")], server[0]))


def test_an_address_without_a_zoo(server: tuple[str, _Server], other: FolderZoo) -> None:
    with pytest.raises(CheckpointError, match=r"there is no index.json: not a zoo"):
        list(pull(f"{server[0]}/nowhere", ["x"], other))


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([401], r"answers 401 Unauthorized: it refuses who asks, or the key \(name them as https://USER:PASSWORD@"),
        ([403], r"answers 403 Forbidden: it refuses who asks, or the key"),
        ([410], r"there is no index.json: not a zoo"),
        ([418], r"answers 418 .*\(check the address\)"),
        ([503, 502, 500], r"answers 500 Internal Server Error \(try again later\)"),
    ],
)
def test_a_server_that_refuses_or_fails_is_said_so(
    server: tuple[str, _Server], statuses: list[int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_read, "_PAUSE_SECONDS", 0.0)
    server[1].statuses = statuses
    with pytest.raises(CheckpointError, match=said) as caught:
        entries_of(server[0].replace("//", "//me:verysecret@"))
    assert "verysecret" not in str(caught.value) and not server[1].statuses


def test_a_server_that_fails_once_is_asked_again(server: tuple[str, _Server]) -> None:
    server[1].statuses = [503]
    assert "tiny-lora" in entries_of(server[0])


def test_a_silent_server_and_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_read, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(http_read, "_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/zoo"
        with pytest.raises(CheckpointError, match=r"index.json: the server says nothing for 0 seconds \(try again"):
            entries_of(address)
    with pytest.raises(CheckpointError, match=r"cannot be read: Connection refused \(check the address and the netw"):
        entries_of(address)


def test_names_are_asked_for(filled: FolderZoo, other: FolderZoo) -> None:
    with pytest.raises(ConfigError, match=r"which checkpoints.*tiny-base, tiny-lora"):
        list(pull(str(filled.folder), [], other))
    with pytest.raises(ConfigError, match=r"unknown zoo name 'tiny-lore'.*did you mean tiny-lora"):
        list(pull(str(filled.folder), ["tiny-lore"], other))


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("ssh", "sshfs")])
def test_a_protocol_whose_package_is_missing_names_it(
    protocol: str, package: str, other: FolderZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("s3fs", "gcsfs", "sshfs", "paramiko"):
            raise ImportError(f"No module named {name}")
        return importing(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=rf"{protocol}:// needs a package .*\(pip install {package}\)") as caught:
        list(pull(f"{protocol}://bucket/zoo", ["x"], other))
    assert "\n" not in str(caught.value)


def test_no_secret_reaches_what_is_written(
    filled: FolderZoo, other: FolderZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hf_verysecret")
    list(push([find("zoo:tiny-lora")], str(other.folder)))
    for zoo in (other.folder, user_zoo()):
        assert not any(b"hf_verysecret" in path.read_bytes() for path in zoo.rglob("*") if path.is_file())
    assert open_checkpoint("zoo:tiny-lora").manifest is not None


def test_an_address_loses_its_password_in_messages(server: tuple[str, _Server], other: FolderZoo) -> None:
    address = server[0].replace("//", "//me:verysecret@")
    for names in (["no-such"], []):
        with pytest.raises((CheckpointError, ConfigError)) as caught:
            list(pull(f"{address}/nowhere", names, other))
        assert "verysecret" not in str(caught.value)


def test_a_server_that_sends_more_than_is_listed_is_stopped(
    server: tuple[str, _Server], filled: FolderZoo, other: FolderZoo
) -> None:
    path = find("zoo:tiny-lora").folder / "README.md"
    path.write_bytes(path.read_bytes() + b"x" * 10_000_000)
    with pytest.raises(CheckpointError, match=r"the server sends [\d,]+ bytes, more than the [\d,]+ that are taken"):
        list(pull(server[0], ["tiny-lora"], other))
