from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from peft_eval.checkpoint.hashing import file_sha256, weights_sha256
from peft_eval.checkpoint.manifest import BaseRecord, FileRecord, Manifest, MethodRecord
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.errors import BaseMismatchError, CheckpointError


def write_base(folder: Path, value: float = 0.0) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file({"weight": torch.full((2, 2), value)}, folder / "model.safetensors")
    return folder


def write_checkpoint(folder: Path, base: Path, *, manifest: bool = True) -> Path:
    folder.mkdir(parents=True)
    save_file({"a": torch.ones(2)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base)}))
    if manifest:
        files = {
            path.name: FileRecord(bytes=path.stat().st_size, sha256=file_sha256(path)) for path in folder.iterdir()
        }
        Manifest(
            kind="adapter",
            created="2026-01-01T00:00:00Z",
            base=BaseRecord(location=str(base), weights_sha256=weights_sha256(base)),
            method=MethodRecord(name="lora"),
            files=files,
        ).write(folder)
    return folder


def test_a_peft_adapter_without_manifest_opens(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    checkpoint = open_checkpoint(str(write_checkpoint(tmp_path / "adapter", base, manifest=False)))
    assert (checkpoint.kind, checkpoint.method, checkpoint.manifest) == ("adapter", "lora", None)
    assert checkpoint.base_folder() == base


def test_full_weights_are_told_by_what_is_there(tmp_path: Path) -> None:
    assert open_checkpoint(str(write_base(tmp_path / "model"))).kind == "full"


def test_the_hash_follows_the_weights(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    one = open_checkpoint(str(write_checkpoint(tmp_path / "one", base, manifest=False)))
    two = open_checkpoint(str(write_checkpoint(tmp_path / "two", base, manifest=False)))
    assert one.sha256 == two.sha256
    save_file({"a": torch.zeros(2)}, tmp_path / "two" / "adapter_model.safetensors")
    assert open_checkpoint(str(tmp_path / "two")).sha256 != one.sha256


def test_another_base_is_refused_unless_insisted(tmp_path: Path) -> None:
    base, other = write_base(tmp_path / "base"), write_base(tmp_path / "other", 1.0)
    checkpoint = open_checkpoint(str(write_checkpoint(tmp_path / "adapter", base)))
    assert checkpoint.base_folder() == base
    with pytest.raises(BaseMismatchError, match="force_base=true"):
        checkpoint.base_folder(str(other))
    assert checkpoint.base_folder(str(other), force=True) == other


def test_a_base_that_is_gone_is_named(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(write_checkpoint(tmp_path / "adapter", tmp_path / "gone", manifest=False)))
    with pytest.raises(CheckpointError, match=r"gone .*pretrained=BASE"):
        checkpoint.base_folder()


def break_truncate(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


def break_change(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def break_remove(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def break_pickle(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    (folder / "peft_eval.json").unlink()


def break_garbage(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 100)
    (folder / "peft_eval.json").unlink()


def break_manifest(folder: Path) -> None:
    path = folder / "peft_eval.json"
    path.write_text(path.read_text()[:-20])


def break_field(folder: Path) -> None:
    path = folder / "peft_eval.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "magic"}))


def break_format(folder: Path) -> None:
    path = folder / "peft_eval.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))


def break_outside(folder: Path) -> None:
    path = folder / "peft_eval.json"
    content = json.loads(path.read_text())
    content["files"]["../base/model.safetensors"] = {"bytes": 1, "sha256": ""}
    path.write_text(json.dumps(content))


def break_unfinished(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.unlink()
    (folder / ".training").mkdir()


def break_empty(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_truncate, "bytes, the manifest says"),
        (break_change, "was changed since"),
        (break_remove, "adapter_model.safetensors is missing"),
        (break_pickle, "pickled weights.*refused"),
        (break_garbage, "not a whole safetensors file"),
        (break_manifest, "not valid JSON"),
        (break_field, "field kind"),
        (break_format, "newer than"),
        (break_outside, "outside"),
        (break_unfinished, "--resume"),
        (break_empty, "neither adapter_config.json nor config.json"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path, damage, words: str) -> None:
    folder = write_checkpoint(tmp_path / "adapter", write_base(tmp_path / "base"))
    damage(folder)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(str(folder))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        open_checkpoint(str(tmp_path / "nowhere"))
