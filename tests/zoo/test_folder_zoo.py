"""Adding, looking up, removing: whole or not at all, by what is in it, and never out of the folder."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from peft_eval.checkpoint.location import pinned, resolve_folder
from peft_eval.checkpoint.manifest import Manifest
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.checkpoint.zoo_index import find, forget_lookups, is_plain_path
from peft_eval.errors import CheckpointError, ConfigError, PeftEvalError
from peft_eval.zoo.adding import Addition, add
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.records import read_record, version_of
from tests.zoo.conftest import index_of


def test_what_is_added_is_found_by_name_version_and_tag(filled: FolderZoo) -> None:
    place = find("zoo:tiny-lora")
    assert find(f"zoo:tiny-lora@{place.version}").folder == find("zoo:tiny-lora@v1").folder == place.folder
    assert resolve_folder("zoo:tiny-lora@latest") == place.folder == filled.folder / "tiny-lora" / place.version
    assert pinned("zoo:tiny-lora") == f"zoo:tiny-lora@{place.version}"
    assert open_checkpoint("zoo:tiny-lora").kind == "adapter"


def test_a_version_is_the_hash_of_what_runs(filled: FolderZoo) -> None:
    record = read_record(find("zoo:tiny-lora").folder)
    assert record is not None and record.version == version_of(record.files)
    assert {"README.md", "adapter_model.safetensors", "peft_eval.json"} <= set(record.files)
    without_card = {name: file for name, file in record.files.items() if name != "README.md"}
    assert version_of(without_card) == record.version
    changed = record.files | {"adapter_config.json": record.files["README.md"]}
    assert version_of(changed) != record.version


def test_the_base_is_named_as_others_can_find_it(filled: FolderZoo, made: Path, tiny_base: Path) -> None:
    base = find("zoo:tiny-base")
    folder = find("zoo:tiny-lora").folder
    manifest = Manifest.read(folder)
    assert (manifest.base.location, manifest.base.revision) == ("zoo:tiny-base", base.version)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "zoo:tiny-base"
    assert str(tiny_base) not in "".join(path.read_text() for path in folder.glob("*.json"))
    assert open_checkpoint("zoo:tiny-lora").base_folder() == base.folder
    assert Manifest.read(made).base.location == str(tiny_base)  # the source is left as it was


def test_adding_the_same_again_changes_nothing(filled: FolderZoo, made: Path) -> None:
    before = index_of(filled)
    again = add(Addition(str(made), probes=False), filled)
    assert not again.is_new and index_of(filled) == before


def test_a_new_version_becomes_the_latest_and_the_old_one_stays(filled: FolderZoo, made: Path, tmp_path: Path) -> None:
    old = find("zoo:tiny-lora")
    changed = shutil.copytree(made, tmp_path / "tiny-lora")
    (changed / "notes.txt").write_text("trained again")
    new = add(Addition(str(changed), probes=False), filled).place
    assert new.version != old.version == find(f"zoo:tiny-lora@{old.version}").version
    assert find("zoo:tiny-lora@v1").version == old.version
    forget_lookups()
    assert find("zoo:tiny-lora").version == new.version
    with pytest.raises(CheckpointError, match=rf"tag v1 is version {old.version}: a tag never moves"):
        (changed / "notes.txt").write_text("and again")
        add(Addition(str(changed), tags=("v1",)), filled)


def test_latest_does_not_move_while_a_process_runs(filled: FolderZoo, made: Path, tmp_path: Path) -> None:
    before = find("zoo:tiny-lora").version
    changed = shutil.copytree(made, tmp_path / "tiny-lora")
    (changed / "notes.txt").write_text("by another process")
    worker = multiprocessing.get_context("fork").Process(
        target=add, args=(Addition(str(changed), probes=False), filled)
    )
    worker.start()
    worker.join()
    assert worker.exitcode == 0 and index_of(filled)["entries"]["tiny-lora"]["latest"] != before
    assert find("zoo:tiny-lora").version == before


def test_removing(filled: FolderZoo) -> None:
    place = find("zoo:tiny-lora")
    assert filled.remove("tiny-lora", "v1") == [place.version]
    assert not place.folder.exists() and "tiny-lora" not in index_of(filled)["entries"]
    with pytest.raises(ConfigError, match=r"unknown zoo name 'tiny-lora'.*did you mean tiny-base"):
        find("zoo:tiny-lora")


def test_unknown_versions_list_those_there_are(filled: FolderZoo) -> None:
    version = find("zoo:tiny-lora").version
    with pytest.raises(ConfigError, match=rf"unknown version of zoo:tiny-lora 'v2'.*{version}|v1"):
        find("zoo:tiny-lora@v2")


def test_a_name_of_the_shipped_zoo_is_not_taken(zoo: FolderZoo, tiny_base: Path) -> None:
    with pytest.raises(CheckpointError, match="comes with peft-eval has a base"):
        add(Addition(str(tiny_base), name="base"), zoo)


@pytest.mark.parametrize("name", ["..", "a/b", ".hidden", "a..b", "-x", "x" * 97, "a b", "a\n"])
def test_names_that_are_none(zoo: FolderZoo, made: Path, name: str) -> None:
    with pytest.raises(PeftEvalError, match="is no name for the zoo"):
        add(Addition(str(made), name=name), zoo)
    assert not is_plain_path(f"{name}/..") and not (zoo.folder / "index.json").exists()


def test_only_files_of_a_checkpoint_are_stored(filled: FolderZoo, made: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(made, tmp_path / "mixed")
    for name in ("training_args.bin", "optimizer.pt", "model.py", "more.tar.gz", ".env", "trainer_state.json"):
        (mixed / name).write_bytes(b"x")
    (mixed / "checkpoint-1").mkdir()
    added = add(Addition(str(mixed), probes=False), filled)
    assert {"training_args.bin", "optimizer.pt", "model.py", "more.tar.gz", ".env", "checkpoint-1"} <= set(
        added.left_out
    )
    stored = {path.name for path in added.place.folder.iterdir()}
    expected = {"README.md", "adapter_config.json", "adapter_model.safetensors", "peft_eval.json", "zoo.json"}
    assert expected <= stored and not stored & set(added.left_out)


def test_a_link_is_refused(filled: FolderZoo, made: Path, tmp_path: Path) -> None:
    linked = shutil.copytree(made, tmp_path / "linked")
    (linked / "notes.txt").symlink_to("/etc/passwd")
    with pytest.raises(CheckpointError, match=r"notes.txt'? is a link"):
        add(Addition(str(linked)), filled)
    assert "linked" not in index_of(filled)["entries"]


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("../outside", "is no folder inside"),
        ("/etc", "is no folder inside"),
        ("link", "is a symbolic link"),
        (7, "inside"),
    ],
)
def test_an_index_that_leads_out_is_refused(filled: FolderZoo, folder: object, said: str) -> None:
    (filled.folder / "link").symlink_to("/etc")
    index = index_of(filled)
    entry = index["entries"]["tiny-lora"]
    entry["versions"][entry["latest"]]["folder"] = folder
    (filled.folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=said):
        find("zoo:tiny-lora")


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format_version": 1, "entries": {"../x": {"versions": {}}}}', "[" * 99999]
)
def test_a_damaged_index_is_said_in_a_line(zoo: FolderZoo, text: str) -> None:
    zoo.folder.mkdir()
    (zoo.folder / "index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index.json: not an index of a zoo") as caught:
        find("zoo:base")
    assert "\n" not in str(caught.value)


def test_a_newer_index_asks_for_an_update(zoo: FolderZoo) -> None:
    zoo.folder.mkdir()
    (zoo.folder / "index.json").write_text('{"format_version": 99, "entries": {}}')
    with pytest.raises(CheckpointError, match=r"newer than 1 .*update peft-eval"):
        find("zoo:base")


def test_two_processes_add_at_once(filled: FolderZoo, made: Path) -> None:
    zoo = filled
    orders = [Addition(str(made), name=f"made-{number % 3}", probes=False) for number in range(6)]
    workers = [multiprocessing.get_context("fork").Process(target=add, args=(order, zoo)) for order in orders]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert set(index_of(zoo)["entries"]) == {"tiny-base", "tiny-lora", "made-0", "made-1", "made-2"}
    for name in ("made-0", "made-1", "made-2"):
        assert open_checkpoint(f"zoo:{name}").kind == "adapter"


def test_what_a_killed_process_left_is_taken_up(filled: FolderZoo, made: Path) -> None:
    place = find("zoo:tiny-lora")
    index = index_of(filled)
    del index["entries"]["tiny-lora"]  # killed after its files were in place, before the index
    (filled.folder / "index.json").write_text(json.dumps(index))
    (filled.folder / ".partial-add-tiny-lora").mkdir()
    (filled.folder / ".partial-add-tiny-lora" / "half.json").write_text("{")
    again = add(Addition(str(made), probes=False), filled)
    assert again.is_new and again.place.folder == place.folder
    assert not list(filled.folder.glob(".partial*"))
