"""`zoo verify`: what it finds when all is well, and that each kind of damage is named; signatures; the card."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from peft_eval.checkpoint.zoo_index import find
from peft_eval.doctor.check import Check
from peft_eval.errors import ConfigError
from peft_eval.zoo.adding import Addition, add
from peft_eval.zoo.card import curve
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.records import version_of
from peft_eval.zoo.signing import sign
from peft_eval.zoo.verifying import verify


def checks(name: str, **more: object) -> dict[str, Check]:
    """Returns what was found, by what was looked at."""
    return {check.name: check for check in verify(find(f"zoo:{name}"), **more)}


def test_all_is_well(filled: FolderZoo) -> None:
    found = checks("tiny-lora")
    assert {name: check.state for name, check in found.items()} == {
        "files": "ok",
        "checkpoint": "ok",
        "signature": "note",
        "base": "ok",
        "probe": "ok",
    }
    assert found["probe"].found.endswith("as recorded")


def test_a_changed_byte_is_found(filled: FolderZoo) -> None:
    path = find("zoo:tiny-lora").folder / "README.md"
    path.write_text(path.read_text() + " ")
    found = checks("tiny-lora")
    assert list(found) == ["files"] and "README.md is not the file that was added" in found["files"].found


@pytest.mark.parametrize("change", ["more.json", "README.md"])
def test_a_file_too_many_or_too_few_is_found(filled: FolderZoo, change: str) -> None:
    path = find("zoo:tiny-lora").folder / change
    path.unlink() if path.exists() else path.write_text("{}")
    assert f"not listed, or listed and gone: {change}" in checks("tiny-lora")["files"].found


def test_another_effect_than_recorded_is_found(filled: FolderZoo) -> None:
    path = find("zoo:tiny-lora").folder / "zoo.json"
    record = json.loads(path.read_text())
    record["about"]["probe"]["mean"] *= 1.01
    path.write_text(json.dumps(record))
    assert checks("tiny-lora")["probe"].state == "bad"


def test_another_base_is_found(filled: FolderZoo) -> None:
    path = find("zoo:tiny-lora").folder / "zoo.json"
    record = json.loads(path.read_text())
    record["about"]["base_sha256"] = "0" * 64
    path.write_text(json.dumps(record))
    found = checks("tiny-lora")
    assert found["base"].state == "bad" and "probe" not in found


def test_a_base_that_was_only_named_is_not_called_the_one_of_training(filled: FolderZoo, tmp_path: Path) -> None:
    """Without a manifest, nothing tells that it is: but the probe is replayed all the same."""
    source = shutil.copytree(find("zoo:tiny-lora").folder, tmp_path / "plain")
    for name in ("peft_eval.json", "zoo.json", "README.md"):
        (source / name).unlink()
    add(Addition(str(source), base="zoo:tiny-base"), filled)
    found = checks("plain")
    assert found["base"].state == "note"
    assert "as named when it was added; which it was trained on, the checkpoint does not say" in found["base"].found
    assert found["probe"].state == "ok"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An author's private and public key, and a stranger's public key, made as the documentation says."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("author", "stranger"):
        make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key"]
        subprocess.run(make, cwd=folder, check=True, capture_output=True)
        public = ["openssl", "ec", "-in", f"{name}.key", "-pubout", "-out", f"{name}.pub"]
        subprocess.run(public, cwd=folder, check=True, capture_output=True)
    return folder / "author.key", folder / "author.pub", folder / "stranger.pub"


def test_signatures(filled: FolderZoo, made: Path, keys: tuple[Path, Path, Path]) -> None:
    private, public, stranger = keys
    order = Addition(str(made), name="signed", probes=False, sign=lambda folder: sign(folder, key=private))
    place = add(order, filled).place
    assert checks("signed", public_key=public)["signature"].state == "ok"
    assert checks("signed")["signature"].state == "note"
    assert checks("signed", public_key=stranger)["signature"].state == "bad"
    assert checks("tiny-lora", public_key=public)["signature"].state == "bad"
    # Whoever changes a file and every hash of it, but has no key:
    (place.folder / "README.md").write_text("another card")
    record = json.loads((place.folder / "zoo.json").read_text())
    from peft_eval.checkpoint.hashing import file_sha256

    record["files"]["README.md"] = {"bytes": 12, "sha256": file_sha256(place.folder / "README.md")}
    (place.folder / "zoo.json").write_text(json.dumps(record))
    found = checks("signed", public_key=public)
    assert found["files"].state == "ok" and found["signature"].state == "bad"
    with pytest.raises(ConfigError, match="not a private key to sign with"):
        sign(place.folder, key=public)


def test_the_version_does_not_depend_on_card_or_signature(filled: FolderZoo) -> None:
    from peft_eval.zoo.records import read_record

    record = read_record(find("zoo:tiny-lora").folder)
    assert record is not None
    assert version_of(record.files | {"model.sig": record.files["README.md"]}) == record.version


def test_the_card_has_the_hubs_metadata(filled: FolderZoo) -> None:
    card = (find("zoo:tiny-lora").folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "peft" and front["license"] == "apache-2.0" and "base_model" not in front
    assert f"peft=zoo:tiny-lora@{find('zoo:tiny-lora').version}" in card


def test_the_curve_falls_as_the_losses_do() -> None:
    assert curve([4.0, 3.0, 2.0, 1.0], width=4) == "█▆▃▁" and curve([1.0] * 3) == "▁▁▁" and curve([]) == ""
    assert len(curve([float(number) for number in range(500)])) == 60
