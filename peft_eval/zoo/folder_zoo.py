"""A zoo in a folder: versions go in and out whole, and the index is only ever replaced by a complete one.

Files are gathered in a scratch folder, flushed to the disk and renamed into place; then the index gains a line. Whoever
is killed on the way leaves a scratch folder, which the next attempt takes up, or a version that the next one indexes.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from peft_eval.checkpoint.writing import flush_to_disk
from peft_eval.checkpoint.zoo_index import INDEX_NAME, LATEST, ZooPlace, forget_lookups, place_of, version_named
from peft_eval.errors import CheckpointError, unknown_name
from peft_eval.resources import zoo_folder
from peft_eval.whole_file import write_whole
from peft_eval.zoo.records import (
    RECORD_NAME,
    Entry,
    Index,
    IndexRow,
    VersionRecord,
    check_name,
    check_tag,
    parse_index,
)
from peft_eval.zoo.scores import summary_of

_SCRATCH = ".partial"
_LOCKS = ".locks"


class FolderZoo:
    """A zoo that can be changed.

    Args:
        folder: where it is; made when the first version goes in.
        flat: whether a name's folder holds its one version itself, as in the shipped zoo; else each version has its
            own folder below the name.
    """

    def __init__(self, folder: Path, *, flat: bool = False):
        self.folder = folder
        self.flat = flat

    def index(self) -> Index:
        """Reads the index; an empty one if there is none.

        Raises:
            CheckpointError: it is damaged.
        """
        path = self.folder / INDEX_NAME
        return parse_index(path.read_bytes(), str(path)) if path.is_file() else Index()

    def place(self, name: str, version: str = LATEST) -> ZooPlace | None:
        """Returns a version's place, None if it is not here; `version` may be a tag or `latest`."""
        entry = self.index().entries.get(name)
        found = version_named(entry.model_dump(), version) if entry else None
        return place_of(self.folder, name, found, entry.versions[found].model_dump()) if entry and found else None

    @contextlib.contextmanager
    def scratch(self, key: str) -> Iterator[Path]:
        """Yields a scratch folder that one process at a time has; it stays for a second attempt if the first fails.

        Args:
            key: what is gathered in it, as `NAME-VERSION`.
        """
        self._make()
        with FileLock(self.folder / _LOCKS / f"{key}.lock"):
            scratch = self.folder / f"{_SCRATCH}-{key}"
            scratch.mkdir(exist_ok=True)
            yield scratch

    def put(self, scratch: Path, record: VersionRecord, *, tags: tuple[str, ...] = ()) -> tuple[ZooPlace, bool]:
        """Moves a scratch folder's files into place and indexes them.

        Args:
            scratch: holds exactly the files of the record.
            record: becomes `zoo.json`.
            tags: names for this version; one that another version has is refused.

        Returns:
            Its place, and whether it was not here before.

        Raises:
            CheckpointError, ConfigError: a tag is taken, or is none.
        """
        check_name(record.name)
        for tag in tags:
            check_tag(tag)
        (scratch / RECORD_NAME).write_text(record.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
        row = self._row(record, scratch)
        with self._locked():
            index = self.index()
            entry = index.entries.get(record.name)
            _check_tags(entry, tags, record)
            is_new = entry is None or record.version not in entry.versions
            target = self.folder / row.folder
            if is_new or not target.is_dir():
                flush_to_disk(scratch)
                if target.is_dir():
                    shutil.rmtree(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                scratch.replace(target)
            else:
                shutil.rmtree(scratch)
                assert entry is not None
                row = entry.versions[record.version]
            others = {} if entry is None or self.flat else entry.versions
            kept = {tag: version for tag, version in (entry.tags if entry else {}).items() if version in others}
            index.entries[record.name] = Entry(
                latest=record.version if is_new or entry is None else entry.latest,
                tags=kept | dict.fromkeys(tags, record.version),
                versions={**others, record.version: row},
            )
            self._write(index)
        return place_of(self.folder, record.name, record.version, row.model_dump()), is_new

    def remove(self, name: str, version: str | None = None) -> list[str]:
        """Removes a version, or a name with all its versions; the index first, so that none is found half removed.

        Returns:
            The versions that went.

        Raises:
            ConfigError: there is no such name or version here.
        """
        with self._locked():
            index = self.index()
            entry = index.entries.get(name)
            if entry is None:
                raise unknown_name("zoo name", name, index.entries, place=str(self.folder))
            found = version_named(entry.model_dump(), version) if version else None
            if version and found is None:
                raise unknown_name(f"version of {name}", version, {*entry.versions, *entry.tags})
            gone = [found] if found else list(entry.versions)
            folders = [place_of(self.folder, name, one, entry.versions[one].model_dump()).folder for one in gone]
            left = {one: row for one, row in entry.versions.items() if one not in gone}
            if left:
                newest = max(left, key=lambda one: left[one].added)
                index.entries[name] = Entry(
                    latest=entry.latest if entry.latest in left else newest,
                    tags={tag: one for tag, one in entry.tags.items() if one in left},
                    versions=left,
                )
            else:
                del index.entries[name]
            self._write(index)
            for folder in folders:
                shutil.rmtree(folder)
            if not left and not self.flat:
                with contextlib.suppress(OSError):
                    (self.folder / name).rmdir()
        return gone

    def change(self, apply: Callable[[Index], None]) -> None:
        """Changes the index under the zoo's lock."""
        with self._locked():
            index = self.index()
            apply(index)
            self._write(index)

    def _row(self, record: VersionRecord, scratch: Path) -> IndexRow:
        about = record.about
        return IndexRow(
            folder=record.name if self.flat else f"{record.name}/{record.version}",
            kind=about.kind,
            method=about.method,
            base=about.base,
            bytes=sum(file.bytes for file in record.files.values()),
            parameters=about.parameters,
            licence=about.licence,
            summary=about.summary,
            weights_sha256=about.weights_sha256 if about.kind == "full" else None,
            added=record.added,
            scores=summary_of(scratch),
        )

    def _make(self) -> None:
        try:
            (self.folder / _LOCKS).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise CheckpointError("not a folder", place=str(self.folder), remedy="name another zoo") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._make()
        with FileLock(self.folder / _LOCKS / f"{INDEX_NAME}.lock"):
            yield

    def _write(self, index: Index) -> None:
        write_whole(self.folder / INDEX_NAME, index.to_json())
        forget_lookups()


def _check_tags(entry: Entry | None, tags: tuple[str, ...], record: VersionRecord) -> None:
    for tag in tags:
        taken = entry.tags.get(tag) if entry else None
        if taken not in (None, record.version):
            raise CheckpointError(
                f"tag {tag} is version {taken}: a tag never moves", place=record.name, remedy="choose another --tag"
            )


def check_not_shipped(name: str, zoo: Path) -> None:
    """Refuses a name of the shipped zoo, so that what it stands for does not depend on whose machine it is.

    Raises:
        CheckpointError: the shipped zoo has it.
    """
    if zoo.resolve() != zoo_folder().resolve() and name in FolderZoo(zoo_folder()).index().entries:
        raise CheckpointError(f"the zoo that comes with peft-eval has a {name}", remedy="choose another: --name NAME")


def now() -> str:
    """Returns the time as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
