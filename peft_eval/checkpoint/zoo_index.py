"""From `zoo:NAME[@VERSION]` to a folder: which zoos there are, and what their indexes say.

A zoo is a folder with an `index.json` and, below it, one folder for each version of each checkpoint. There are two:
the user's own (PEFT_EVAL_ZOO, else in the user's data folder) and, behind it, the one that travels with peft-eval.

Listing ten thousand entries must not take longer than it takes Python to start, so an index is read here as plain
JSON. Names, versions and folders are checked as they are used; `peft_eval.zoo.records` checks the whole when it is
written or comes from elsewhere.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from peft_eval.errors import CheckpointError, unknown_name
from peft_eval.resources import zoo_folder

PREFIX = "zoo:"
INDEX_NAME = "index.json"
INDEX_FORMAT = 1
LATEST = "latest"
ENVIRONMENT_VARIABLE = "PEFT_EVAL_ZOO"
NAME = re.compile(r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{0,95}")
VERSION = re.compile(r"[0-9a-f]{12}")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LARGEST_INDEX_BYTES = 1 << 28


@dataclass(frozen=True)
class ZooPlace:
    """One version of a checkpoint in a zoo.

    Attributes:
        zoo: the zoo's folder.
        folder: the folder of the version's files.
        row: what the index says of it.
    """

    name: str
    version: str
    zoo: Path
    folder: Path
    row: dict[str, Any]

    @property
    def pinned(self) -> str:
        """The reference that always means these files."""
        return f"{PREFIX}{self.name}@{self.version}"


def user_zoo() -> Path:
    """Returns the folder of the user's own zoo, which need not exist."""
    from platformdirs import user_data_path

    named = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(named).expanduser() if named else user_data_path("peft_eval") / "zoo"


def zoos() -> list[Path]:
    """Returns the folders in which names are looked for, the user's first."""
    return [user_zoo(), zoo_folder()]


def read_entries(zoo: Path) -> dict[str, dict[str, Any]]:
    """Returns a zoo's entries by name, none if it has no index.

    Raises:
        CheckpointError: the index is no JSON, of a newer format, or not of the form that an index has.
    """
    path = zoo / INDEX_NAME
    try:
        if path.stat().st_size > _LARGEST_INDEX_BYTES:
            raise CheckpointError(f"larger than {_LARGEST_INDEX_BYTES:,} bytes: no index", place=str(path))
        return parse_entries(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}


def parse_entries(content: bytes, place: str) -> dict[str, dict[str, Any]]:
    """Returns the entries of an index's bytes; errors name `place`.

    Raises:
        CheckpointError: see `read_entries`.
    """
    try:
        with without_collection():
            index = json.loads(content)
        found, entries = index["format_version"], index["entries"]
        well_formed = isinstance(found, int) and all(
            NAME.fullmatch(name) and isinstance(entry["versions"], dict) for name, entry in entries.items()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"not an index of a zoo: {error!r}", place=place) from error
    if isinstance(found, int) and found > INDEX_FORMAT:
        raise CheckpointError(
            f"index format {found} is newer than {INDEX_FORMAT}", place=place, remedy="update peft-eval"
        )
    if not well_formed:
        raise CheckpointError("not an index of a zoo: a name or an entry does not fit", place=place)
    return dict(entries)


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Holds back Python's search for cycles, which takes longer than to make ten thousand rows without any."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def all_names() -> list[str]:
    """Returns the names that may follow `zoo:`."""
    return sorted({name for zoo in zoos() for name in read_entries(zoo)})


def split_name(reference: str) -> tuple[str, str | None]:
    """Splits `[zoo:]NAME[@VERSION]` into name and version or tag."""
    name, _, version = reference.removeprefix(PREFIX).partition("@")
    return name, version or None


def find(reference: str, *, version: str | None = None) -> ZooPlace:
    """Returns where a zoo reference leads. `latest` is looked up once a process: it does not move during a run.

    Args:
        reference: `zoo:NAME[@VERSION]`, where VERSION is a version, a tag or `latest`.
        version: a version, where the reference has none of its own.

    Raises:
        ConfigError: no zoo has this name or version.
        CheckpointError: an index is damaged, or its files are gone.
    """
    name, own = split_name(reference)
    return _find(name, own or version or LATEST, tuple(zoos()))


@lru_cache(maxsize=4096)
def _find(name: str, version: str, among: tuple[Path, ...]) -> ZooPlace:
    return find_in(among, name, version)


def find_in(among: Iterable[Path], name: str, version: str = LATEST) -> ZooPlace:
    """Returns where a version is in the first of these zoos that has it.

    Raises:
        ConfigError, CheckpointError: see `find`.
    """
    known: set[str] = set()
    names: set[str] = set()
    for zoo in among:
        entries = read_entries(zoo)
        names |= set(entries)
        if name in entries:
            found = version_named(entries[name], version)
            if found is not None:
                return place_of(zoo, name, found, entries[name]["versions"][found])
            known |= {*entries[name]["versions"], *entries[name].get("tags", {})}
    if name in names:
        raise unknown_name(f"version of {PREFIX}{name}", version, known)
    raise unknown_name("zoo name", name, names)


def forget_lookups() -> None:
    """Looks names up afresh, after a zoo has been changed by this process."""
    _find.cache_clear()


def version_named(entry: dict[str, Any], version: str) -> str | None:
    """Returns the version that a version, a tag or `latest` stands for in an entry, None if there is none."""
    meant = entry.get("latest") if version == LATEST else entry.get("tags", {}).get(version, version)
    return meant if meant in entry["versions"] else None


def place_of(zoo: Path, name: str, version: str, row: dict[str, Any]) -> ZooPlace:
    """Returns a row's place, after a check that its folder is a real folder inside the zoo.

    Raises:
        CheckpointError: it leaves the zoo, is a link, or is gone.
    """
    listed = row.get("folder") if isinstance(row, dict) else None
    place = str(zoo / INDEX_NAME)
    if not isinstance(listed, str) or not VERSION.fullmatch(version) or not is_plain_path(listed):
        raise CheckpointError(f"{name}@{version}: {listed!r} is no folder inside the zoo", place=place)
    folder = zoo / listed
    below = [zoo.joinpath(*PurePosixPath(listed).parts[: depth + 1]) for depth in range(listed.count("/") + 1)]
    if any(part.is_symlink() for part in below):
        raise CheckpointError(f"{name}@{version}: {listed} is a symbolic link, which a zoo has none of", place=place)
    if not folder.is_dir():
        raise CheckpointError(
            f"{name}@{version}: its folder {listed} is gone",
            place=place,
            remedy="peft-eval zoo remove it, or pull it",
        )
    return ZooPlace(name, version, zoo, folder, row)


def is_plain_path(path: str) -> bool:
    """Tells whether a relative path stays below its start: no `..`, no drive, no backslash, nothing hidden."""
    parts = path.split("/")
    return bool(path) and all(NAME.fullmatch(part) for part in parts)
