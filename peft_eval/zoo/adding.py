"""From a checkpoint's folder to a version in a zoo: what is stored, what is changed on the way, what is written of it.

Files are copied byte for byte, with two exceptions, both written into the copy's manifest: a base that is named by a
folder of this machine is named by what others can find, and tokenizer files that are the base's own, byte for byte,
are left to a base that is in a zoo.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.hashing import TOKENIZER_FILES, file_sha256, weights_sha256
from peft_eval.checkpoint.location import is_local, pinned, resolve_folder, split_revision
from peft_eval.checkpoint.manifest import MANIFEST_NAME, FileRecord, Manifest
from peft_eval.checkpoint.reading import ADAPTER_CONFIG, Checkpoint, open_checkpoint
from peft_eval.checkpoint.writing import TOKENIZER_COMPANIONS
from peft_eval.checkpoint.zoo_index import PREFIX, ZooPlace, find, read_entries, zoos
from peft_eval.errors import BaseMismatchError, CheckpointError
from peft_eval.zoo.card import write_card
from peft_eval.zoo.describing import described, probe_of, unknown_of
from peft_eval.zoo.files import SCORES_NAME, scan
from peft_eval.zoo.folder_zoo import FolderZoo, check_not_shipped, now
from peft_eval.zoo.records import About, StoredFile, VersionRecord, check_name, check_tag, version_of
from peft_eval.zoo.scores import scores_of_run


@dataclass(frozen=True)
class Addition:
    """What `peft-eval zoo add` is asked for.

    Attributes:
        source: the checkpoint: a folder or a hub id.
        name: its name in the zoo; None for the folder's own.
        base: the base, where the checkpoint does not say it or says it in a way that others cannot follow.
        scores: results of lm-eval with samples.
        command: what made those results.
        licence, summary: what the checkpoint does not say itself.
        tags: names for the version.
        probes: measure what the adapter changes, if the base is on this machine.
        sign: writes a signature into a folder, None for none.
    """

    source: str
    name: str | None = None
    base: str | None = None
    scores: Path | None = None
    command: str | None = None
    licence: str | None = None
    summary: str | None = None
    tags: tuple[str, ...] = ()
    probes: bool = True
    sign: Callable[[Path], None] | None = None


@dataclass
class Added:
    """What came of it."""

    place: ZooPlace
    record: VersionRecord
    is_new: bool
    left_out: list[str] = field(default_factory=list)


def add(order: Addition, zoo: FolderZoo) -> Added:
    """Puts a checkpoint into a zoo.

    Raises:
        CheckpointError: it is not whole, unsafe, or names a base that nobody else could find.
        ConfigError: its name or a tag is none.
        BaseMismatchError: the base that was named is not the one it was trained on.
    """
    checkpoint = open_checkpoint(order.source)
    name = order.name or Path(order.source.partition("@")[0]).expanduser().resolve().name
    check_name(name)
    for tag in order.tags:
        check_tag(tag)
    check_not_shipped(name, zoo.folder)
    found = scan(checkpoint.folder, follow_links=not Path(order.source).expanduser().is_dir())
    with zoo.scratch(f"add-{name}") as scratch:
        _empty(scratch)
        for file in found.names:
            shutil.copyfile(checkpoint.folder / file, scratch / file)
        about = described(checkpoint, licence=order.licence, summary=order.summary)
        _name_base(about, scratch, order, checkpoint)
        about.unknown = unknown_of(about, has_manifest=checkpoint.manifest is not None)
        files = _files(scratch)
        if about.probe is None and order.probes:
            about.probe = probe_of(scratch, about)
        record = VersionRecord(name=name, version=version_of(files), added=now(), about=about, files=files)
        if order.scores:
            scores = scores_of_run(order.scores, order.command)
            (scratch / SCORES_NAME).write_text(scores.model_dump_json(exclude_none=True) + "\n", encoding="utf-8")
        write_card(scratch, record)
        if order.sign:
            order.sign(scratch)
        record = record.model_copy(update={"files": _files(scratch)})
        place, is_new = zoo.put(scratch, record, tags=order.tags)
    return Added(place, record, is_new, found.left_out)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _files(folder: Path) -> dict[str, StoredFile]:
    return {
        name: StoredFile(bytes=(folder / name).stat().st_size, sha256=file_sha256(folder / name))
        for name in scan(folder).names
    }


def _name_base(about: About, scratch: Path, order: Addition, checkpoint: Checkpoint) -> None:
    """Settles how the base is called, in the record and in the copied files."""
    named = order.base or about.base
    if named is None:
        if about.kind == "adapter":
            raise CheckpointError(
                "the adapter does not name its base", place=order.source, remedy="name it: --base ORG/NAME or zoo:NAME"
            )
        return
    if not named.startswith(PREFIX) and (Path(named).is_absolute() or Path(named).expanduser().is_dir()):
        named = _known_elsewhere(named, about, order.source)
    about.base, revision = split_revision(named) if named.startswith(PREFIX) else (named, None)
    if order.base and is_local(named):
        found = weights_sha256(resolve_folder(named, revision=revision))
        if about.base_sha256 not in (None, found):
            raise BaseMismatchError(
                f"{named} has weights {str(found)[:12]}, the checkpoint was trained on {str(about.base_sha256)[:12]}",
                place="--base",
                remedy="name the base it was trained on",
            )
        if about.base_sha256 is None:
            about.base_sha256 = found
            about.facts["base"] = f"{named}, as --base says"
        about.base_revision = None
    if about.base.startswith(PREFIX) and about.base_revision is None:
        about.base_revision = str(pinned(named)).partition("@")[2]
    _rewrite(scratch, about, leave_tokenizer=about.base.startswith(PREFIX) and about.kind == "adapter")


def _known_elsewhere(folder: str, about: About, source: str) -> str:
    """Returns the zoo's name of a base that is named by a folder, found by the hash of its weights."""
    expected = about.base_sha256 or (weights_sha256(Path(folder).expanduser()) if Path(folder).is_dir() else None)
    for zoo in zoos():
        for name, entry in read_entries(zoo).items():
            for version, row in entry["versions"].items():
                if expected and row.get("kind") == "full" and row.get("weights_sha256") == expected:
                    about.base_revision, about.base_sha256 = version, expected
                    return f"{PREFIX}{name}@{version}"
    raise CheckpointError(
        f"its base is a folder of this machine, which others cannot find: {folder}",
        place=source,
        remedy="name it as others know it: --base ORG/NAME; or add the base to the zoo first: --base zoo:NAME",
    )


def _rewrite(scratch: Path, about: About, *, leave_tokenizer: bool) -> None:
    """Writes the base's name into the copied files, and removes tokenizer files that are the base's own."""
    config_path, manifest_path = scratch / ADAPTER_CONFIG, scratch / MANIFEST_NAME
    if config_path.is_file():
        config: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
        if config.get("base_model_name_or_path") != about.base:
            config["base_model_name_or_path"] = about.base
            config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if leave_tokenizer:
        base = find(str(about.base), version=about.base_revision).folder
        names = (*TOKENIZER_FILES, *TOKENIZER_COMPANIONS)
        theirs = [name for name in names if (scratch / name).is_file()]
        if theirs and all(_is_same(scratch / name, base / name) for name in theirs):
            for name in theirs:
                (scratch / name).unlink()
    if not manifest_path.is_file():
        return
    manifest = Manifest.read(scratch)
    assert about.base is not None
    manifest.base.location, manifest.base.revision = about.base, about.base_revision
    for name in [name for name in manifest.files if not (scratch / name).is_file()]:
        del manifest.files[name]
    if ADAPTER_CONFIG in manifest.files:
        manifest.files[ADAPTER_CONFIG] = FileRecord(bytes=config_path.stat().st_size, sha256=file_sha256(config_path))
    manifest.write(scratch)


def _is_same(left: Path, right: Path) -> bool:
    return right.is_file() and left.read_bytes() == right.read_bytes()
