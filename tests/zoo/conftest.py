"""A user's zoo in a temporary folder, and small checkpoints to put into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import peft
import pytest

from peft_eval.checkpoint.hashing import file_sha256, weights_sha256
from peft_eval.checkpoint.manifest import BaseRecord, FileRecord, Manifest, MethodRecord
from peft_eval.checkpoint.zoo_index import ENVIRONMENT_VARIABLE, forget_lookups
from peft_eval.zoo.adding import Addition, add
from peft_eval.zoo.folder_zoo import FolderZoo
from tests.adapters import write_adapter
from tests.tiny import tiny_llama


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FolderZoo]:
    """The user's zoo, empty."""
    folder = tmp_path / "zoo"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(folder))
    forget_lookups()
    yield FolderZoo(folder)
    forget_lookups()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama."""
    return tiny_llama(tmp_path_factory.mktemp("base") / "tiny-base")


@pytest.fixture(scope="session")
def made(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA with a manifest, as training leaves it, its base named by a folder."""
    folder = tmp_path_factory.mktemp("made") / "tiny-lora"
    write_adapter(tiny_base, folder, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    files = {
        path.name: FileRecord(bytes=path.stat().st_size, sha256=file_sha256(path))
        for path in folder.iterdir()
        if path.name.startswith("adapter")
    }
    Manifest(
        kind="adapter",
        created="2026-11-21T12:00:00+00:00",
        base=BaseRecord(location=str(tiny_base), weights_sha256=weights_sha256(tiny_base), vocab_size=384),
        method=MethodRecord(name="lora", options={"rank": 2}, trainable_parameters=512, total_parameters=90000),
        versions={"peft_eval": "0.1.0"},
        files=files,
    ).write(folder)
    return folder


@pytest.fixture(scope="session")
def template(tiny_base: Path, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo with the base and the LoRA, to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("template") / "zoo"
        patch.setenv(ENVIRONMENT_VARIABLE, str(folder))
        add(Addition(str(tiny_base), licence="mit"), FolderZoo(folder))
        add(Addition(str(made), licence="apache-2.0", tags=("v1",)), FolderZoo(folder))
    return folder


@pytest.fixture
def filled(zoo: FolderZoo, template: Path) -> FolderZoo:
    """The user's zoo with the base and the LoRA."""
    shutil.copytree(template, zoo.folder)
    return zoo


def index_of(zoo: FolderZoo) -> dict:
    """Returns the index as JSON."""
    return json.loads((zoo.folder / "index.json").read_text(encoding="utf-8"))
