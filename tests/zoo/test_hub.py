"""Push and pull of hf:ORG/NAME, against a server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from peft_eval.checkpoint.zoo_index import find, forget_lookups
from peft_eval.errors import CheckpointError, ConfigError
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.transfer import pull, push
from tests.hub_requests import HubRequests

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """One repository in memory, me/tiny-lora."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.stored: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.tags: list[str] = []
        self.asked: list[str] = []


class _Handler(HubRequests):
    server: Hub

    def _file(self, *, with_body: bool) -> None:
        hub, name = self.server, self.path.rpartition("/")[2]
        content = hub.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._file(with_body=False)

    def do_GET(self) -> None:
        hub = self.server
        hub.asked.append(self.path)
        if self.path.startswith("/api/models/me/tiny-lora"):
            if not hub.files:
                self.answer({"error": "no such repository"}, 404)
                return
            if "/tree/" in self.path:
                listed = [
                    {"type": "file", "path": name, "size": len(hub.files[name]), "oid": "0"} for name in hub.files
                ]
                self.answer(listed)
                return
            siblings = [{"rfilename": name} for name in hub.files]
            self.answer({"id": "me/tiny-lora", "sha": COMMIT, "siblings": siblings, "private": False})
        else:
            self._file(with_body=True)

    def do_PUT(self) -> None:
        self.server.stored[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def do_POST(self) -> None:
        hub, body = self.server, self.body()
        if self.path == "/api/repos/create":
            self.answer({"url": f"{hub.address}/me/tiny-lora", "id": "me/tiny-lora"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/tag/" in self.path:
            hub.tags.append(json.loads(body)["tag"])
            self.answer({})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"]} for file in json.loads(body)["files"]]
            for file in files:
                big = file["path"].endswith(".safetensors")
                file |= {"uploadMode": "lfs" if big else "regular", "shouldIgnore": False, "oid": None}
            self.answer({"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for one in objects:
                one["actions"] = {"upload": {"href": f"{hub.address}/put/{one['oid']}", "header": {}}}
            self.answer({"transfer": "basic", "objects": objects})
        else:
            assert "/commit/main" in self.path
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    hub.files[value["path"]] = hub.stored[value["oid"]]
            self.answer({"commitUrl": f"{hub.address}/me/tiny-lora/commit/{COMMIT}", "commitOid": COMMIT})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    server.server_close()


def test_there_and_back(hub: Hub, filled: FolderZoo) -> None:
    place = find("zoo:tiny-lora")
    sent = {path.name: path.read_bytes() for path in place.folder.iterdir()}
    [line] = push([place], "hf:me/tiny-lora")
    assert f"sent, {hub.address}/me/tiny-lora/commit/" in line
    assert hub.files == sent and hub.tags == [place.version]
    assert b"library_name: peft" in hub.files["README.md"] and b"hf_test" not in b"".join(hub.files.values())
    filled.remove("tiny-lora")
    [(back, is_new)] = pull(f"hf:me/tiny-lora@{place.version}", [], filled)
    assert is_new and back.version == place.version
    assert {path.name: path.read_bytes() for path in back.folder.iterdir()} == sent
    assert not any(path.is_symlink() for path in back.folder.iterdir())
    [(again, is_new)] = pull("hf:me/tiny-lora", [], filled)
    assert not is_new and again.folder == back.folder


def test_a_changed_file_on_the_hub_is_refused(hub: Hub, filled: FolderZoo) -> None:
    place = find("zoo:tiny-lora")
    list(push([place], "hf:me/tiny-lora"))
    hub.files["adapter_config.json"] += b" "
    filled.remove("tiny-lora")
    with pytest.raises(CheckpointError, match=r"adapter_config.json is not the file that zoo.json lists"):
        list(pull("hf:me/tiny-lora", [], filled))


def test_a_repository_of_another_trainer(hub: Hub, filled: FolderZoo, made: Path, tmp_path: Path) -> None:
    foreign = shutil.copytree(made, tmp_path / "foreign")
    (foreign / "peft_eval.json").unlink()
    hub.files = {path.name: path.read_bytes() for path in foreign.iterdir()}
    forget_lookups()
    [(place, is_new)] = pull("hf:me/tiny-lora", [], FolderZoo(filled.folder))
    assert is_new and place.name == "tiny-lora" and (place.folder / "zoo.json").is_file()


def test_what_is_no_repository(hub: Hub, filled: FolderZoo) -> None:
    with pytest.raises(ConfigError, match="is no name on the hub"):
        list(push([find("zoo:tiny-lora")], "hf:tiny-lora"))
    with pytest.raises(CheckpointError, match="not fetched from the hub"):
        list(pull("hf:me/tiny-lora", [], filled))
    with pytest.raises(ConfigError, match="push one at a time"):
        list(push([find("zoo:tiny-lora"), find("zoo:tiny-base")], "hf:me/tiny-lora"))
