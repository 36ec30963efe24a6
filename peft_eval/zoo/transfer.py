"""Fetching versions from another zoo and sending them there: whole, checked, in parallel, going on where it stopped."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from peft_eval.checkpoint.hashing import file_sha256
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.checkpoint.zoo_index import INDEX_NAME, ZooPlace
from peft_eval.errors import CheckpointError, ConfigError, first_few
from peft_eval.resources import zoo_folder
from peft_eval.zoo.folder_zoo import FolderZoo, check_not_shipped
from peft_eval.zoo.hashed_fetch import fetched_sha256
from peft_eval.zoo.records import RECORD_NAME, Entry, Index, IndexRow, VersionRecord, parse_index, read_record
from peft_eval.zoo.remote import HUB, Remote, described_elsewhere, entries_of

_AT_ONCE = 4
_PART = ".part"
_ATTEMPTS = 3


def pull(source: str, names: Sequence[str], zoo: FolderZoo) -> Iterator[tuple[ZooPlace, bool]]:
    """Fetches versions into a zoo.

    Args:
        source: a folder, an address, or `hf:ORG/NAME[@REVISION]`.
        names: `NAME[@VERSION]`; none for the hub.
        zoo: where they go.

    Yields:
        The place of each, and whether it was not there before.

    Raises:
        ConfigError: no such name or version, or no names.
        CheckpointError: a file is missing, damaged or unsafe; what came stays for the next attempt.
    """
    if source.startswith(HUB):
        if names:
            raise ConfigError("the hub has one checkpoint in a repository", place=source, remedy="name no other")
        from peft_eval.zoo.hub import pull_from_hub

        yield pull_from_hub(source.removeprefix(HUB), zoo)
        return
    if not names:
        raise ConfigError(
            "which checkpoints?",
            place=Remote(source).place,
            remedy=f"there are {first_few(sorted(entries_of(source)))}",
        )
    for name in names:
        yield fetch(Remote(source), name, zoo)


def fetch(remote: Remote, reference: str, zoo: FolderZoo, *, may_be_shipped: bool = False) -> tuple[ZooPlace, bool]:
    """Fetches one version.

    Args:
        remote: the zoo it is in.
        reference: `NAME[@VERSION]`.
        zoo: where it goes.
        may_be_shipped: whether the zoo may take a name of the shipped zoo.

    Returns:
        Its place, and whether it was not there before.
    """
    record, entry = described_elsewhere(remote.address, reference)
    name, version = record.name, record.version
    if not may_be_shipped:
        if (shipped := FolderZoo(zoo_folder()).place(name, version)) is not None:
            return shipped, False
        check_not_shipped(name, zoo.folder)
    if (there := zoo.place(name, version)) is not None:
        return there, False
    folder = entry["versions"][version]["folder"]
    with zoo.scratch(f"{name}-{version}") as scratch:
        if (there := zoo.place(name, version)) is not None:  # another process was first
            shutil.rmtree(scratch)
            return there, False
        _fetch_files(remote, folder, record, scratch)
        open_checkpoint(str(scratch))
        mine = zoo.index().entries.get(name)
        taken = mine.tags if mine else {}
        tags = tuple(tag for tag, one in entry["tags"].items() if one == version and taken.get(tag, version) == version)
        return zoo.put(scratch, record, tags=tags)


def _fetch_files(remote: Remote, folder: str, record: VersionRecord, scratch: Path) -> None:
    """Fetches what is not there yet, largest files first, several at once."""
    for path in scratch.iterdir():  # of an attempt at something else
        if path.name.removesuffix(".json").removesuffix(_PART) not in record.files and path.name not in record.files:
            path.unlink()
    todo = sorted(record.files, key=lambda name: -record.files[name].bytes)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda name: _fetch_file(remote, folder, record, name, scratch), todo):
            pass


def _fetch_file(remote: Remote, folder: str, record: VersionRecord, name: str, scratch: Path) -> None:
    expected, target, part = record.files[name], scratch / name, scratch / f"{name}{_PART}"
    if target.is_file():  # complete and checked: only then it has its name
        return
    if part.is_file() and part.stat().st_size > expected.bytes:
        part.unlink()
    digest = fetched_sha256(lambda: remote.fetch(f"{folder}/{name}", part, expected.bytes), part)
    is_right = part.stat().st_size == expected.bytes and (
        digest == expected.sha256 or file_sha256(part) == expected.sha256
    )
    if not is_right:
        part.unlink()
        raise CheckpointError(
            f"{folder}/{name} is not the file that {RECORD_NAME} lists",
            place=remote.place,
            remedy="pull it again; if it stays so, tell its owner",
        )
    part.replace(target)


def push(places: Sequence[ZooPlace], target: str, *, private: bool = False) -> Iterator[str]:
    """Sends versions to another zoo or to the hub.

    Args:
        places: the versions.
        target: a folder, an address, or `hf:ORG/NAME`.
        private: make the hub's repository private if it has to be made.

    Yields:
        A line about each.

    Raises:
        ConfigError: several for one repository of the hub, or an address that can be read alone.
        CheckpointError: the target cannot be written.
    """
    if target.startswith(HUB):
        if len(places) > 1:
            raise ConfigError("the hub has one checkpoint in a repository", place=target, remedy="push one at a time")
        from peft_eval.zoo.hub import push_to_hub

        yield push_to_hub(places[0], target.removeprefix(HUB), private=private)
        return
    remote = Remote(target)
    remote.check_writable()
    for place in places:
        if remote.is_folder:
            reference = f"{place.name}@{place.version}"
            sent, is_new = fetch(Remote(str(place.zoo)), reference, FolderZoo(remote.folder), may_be_shipped=True)
            yield f"{sent.pinned}: {'sent' if is_new else 'already there'}, {sent.folder}"
        else:
            yield f"{place.pinned}: {_send(place, remote)}, {remote.place}"


def _send(place: ZooPlace, remote: Remote) -> str:
    """Sends a version's files, then its record, then the index: whoever reads meanwhile finds whole versions alone."""
    record = read_record(place.folder)
    if record is None:
        raise CheckpointError(f"there is no {RECORD_NAME}", place=str(place.folder), remedy="add it to your zoo first")
    folder = f"{place.name}/{place.version}"
    before = remote.read(f"{folder}/{RECORD_NAME}")
    if before is None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(lambda name: _send_file(place.folder, record, name, remote, folder), record.files):
                pass
        remote.send(place.folder / RECORD_NAME, f"{folder}/{RECORD_NAME}")
    _enter(place, remote, folder)
    return "already there" if before is not None else "sent"


def _send_file(source: Path, record: VersionRecord, name: str, remote: Remote, folder: str) -> None:
    if remote.size(f"{folder}/{name}") != record.files[name].bytes:
        remote.send(source / name, f"{folder}/{name}")


def _enter(place: ZooPlace, remote: Remote, folder: str) -> None:
    """Adds a line to the index elsewhere, and looks whether it stayed: another push may write it at the same time."""
    row = IndexRow.model_validate({**place.row, "folder": folder})
    for attempt in range(_ATTEMPTS + 1):
        content = remote.read(INDEX_NAME)
        index = parse_index(content, f"{remote.place}/{INDEX_NAME}") if content else Index()
        entry = index.entries.get(place.name)
        if entry is not None and place.version in entry.versions:
            return
        if attempt == _ATTEMPTS:
            break
        tags = {tag: version for tag, version in _tags(place).items() if version == place.version}
        index.entries[place.name] = Entry(
            latest=place.version,
            tags=tags | (entry.tags if entry else {}),
            versions={**(entry.versions if entry else {}), place.version: row},
        )
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / INDEX_NAME
            path.write_text(index.to_json(), encoding="utf-8")
            remote.send(path, INDEX_NAME)
    raise CheckpointError(
        "its files are there, but others keep replacing the index", place=remote.place, remedy="push again"
    )


def _tags(place: ZooPlace) -> dict[str, str]:
    entry = FolderZoo(place.zoo).index().entries.get(place.name)
    return entry.tags if entry else {}
