"""Manifests load for ever: kept as each form of the format wrote them, newer parts absent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peft_eval.checkpoint.manifest import FORMAT_VERSION, MANIFEST_NAME, Manifest
from peft_eval.errors import CheckpointError

KEPT = sorted((Path(__file__).parent / "manifests").glob("*.json"))


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_a_kept_manifest_says_what_it_said(kept: Path, tmp_path: Path) -> None:
    shutil.copyfile(kept, tmp_path / MANIFEST_NAME)
    read = json.loads(Manifest.read(tmp_path).model_dump_json())
    said = json.loads(kept.read_text(encoding="utf-8"))
    assert contains(read, said)


def contains(new: object, old: object) -> bool:
    """Tells whether everything in the old is in the new."""
    if isinstance(new, dict) and isinstance(old, dict):
        return all(key in new and contains(new[key], value) for key, value in old.items())
    return new == old


def test_there_is_one_of_each_format() -> None:
    assert {json.loads(path.read_text())["format_version"] for path in KEPT} == set(range(1, FORMAT_VERSION + 1))


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    newer = json.loads(KEPT[0].read_text()) | {"format_version": FORMAT_VERSION + 1}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(newer))
    with pytest.raises(CheckpointError, match=r"newer than \d+ \(update peft-eval\)"):
        Manifest.read(tmp_path)
