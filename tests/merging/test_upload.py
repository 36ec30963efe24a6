"""Uploading a folder, against a server on this machine that speaks the hub's protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from peft_eval.errors import CheckpointError
from peft_eval.merging.upload import push_folder
from tests.hub_requests import HubRequests


class Hub(ThreadingHTTPServer):
    """Repositories in memory: small files in commits, `*.safetensors` by LFS."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.made: dict[str, Any] = {}
        self.stored: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.refuses = False


class _Handler(HubRequests):
    server: Hub

    def do_GET(self) -> None:
        self.answer({"error": "no such repository"}, 403 if self.server.refuses else 404)

    def do_PUT(self) -> None:
        content = self.body()
        self.server.stored[self.path.rpartition("/")[2]] = content
        self.answer({})

    def do_POST(self) -> None:
        hub, body = self.server, self.body()
        hub.tokens.add(self.headers.get("Authorization"))
        if hub.refuses:
            self.answer({"error": "You are not allowed to write here"}, 403)
        elif self.path == "/api/repos/create":
            hub.made = json.loads(body)
            self.answer({"url": f"{hub.address}/me/model", "id": "me/model"})
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
            self.answer({"commitUrl": f"{hub.address}/me/model/commit/abc", "commitOid": "abc"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "peft_eval.json").write_text('{"kind": "full"}')
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 50)
    return tmp_path


def test_every_file_arrives(hub: Hub, folder: Path) -> None:
    assert push_folder(folder, "me/model", private=True).endswith("/me/model/commit/abc")
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert (hub.made["name"], hub.made["visibility"]) == ("model", "private")
    assert hub.tokens == {"Bearer hf_test"}
    assert hashlib.sha256(hub.files["model.safetensors"]).hexdigest() in hub.stored


def test_a_refusal_is_one_line_and_the_folder_stays(hub: Hub, folder: Path) -> None:
    hub.refuses = True
    with pytest.raises(CheckpointError, match=r"not uploaded to me/model: .*403.*HF_TOKEN") as caught:
        push_folder(folder, "me/model")
    assert "\n" not in str(caught.value) and len(list(folder.iterdir())) == 3
