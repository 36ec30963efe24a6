from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from peft_eval.checkpoint.manifest import BaseRecord, Manifest, MethodRecord
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.errors import ProbeError
from peft_eval.serving.probe import prove_full, weights_differ
from tests.tiny import tiny_llama


def with_manifest(folder: Path, base: Path) -> str:
    Manifest(
        kind="full", created="2026-01-01", base=BaseRecord(location=str(base)), method=MethodRecord(name="full")
    ).write(folder)
    return str(folder)


def change_one_value(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_full_weights_that_are_the_bases_are_refused(tmp_path: Path) -> None:
    base, copy = tiny_llama(tmp_path / "base"), tiny_llama(tmp_path / "copy")
    with pytest.raises(ProbeError, match="changes nothing"):
        prove_full(open_checkpoint(with_manifest(copy, base)))
    change_one_value(copy)
    assert prove_full(open_checkpoint(with_manifest(copy, base))) == {"differs_from_base": True}


def test_an_unknown_or_absent_base_is_said_to_be_unknown(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model")
    assert prove_full(open_checkpoint(str(model))) == {"differs_from_base": None}
    assert prove_full(open_checkpoint(with_manifest(model, tmp_path / "gone"))) == {"differs_from_base": None}


def test_shapes_and_names_count_as_differences(tmp_path: Path) -> None:
    for name, tensors in {"a": {"w": torch.ones(2)}, "b": {"w": torch.ones(3)}, "c": {"v": torch.ones(2)}}.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert weights_differ(tmp_path / "a", tmp_path / "b")
    assert weights_differ(tmp_path / "a", tmp_path / "c")
    assert not weights_differ(tmp_path / "a", tmp_path / "a")
