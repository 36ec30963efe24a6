"""Fetches a pinned archive: resumes, checks its content, unpacks it safely, and puts it in place in one step.

The content is checked by the archive's hash where one is known, else against the files that git lists for the commit.
A fetch can be stopped at any moment and run again. Two at once wait for each other. The folder appears whole or not
at all, with `fetched.json` in it, which says where it came from.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from peft_eval.data.commit_files import check_files, files_of_commit
from peft_eval.data.download import download, without_secrets
from peft_eval.data.unpack import unpack
from peft_eval.errors import DataError
from peft_eval.whole_file import write_whole

RECORD_NAME = "fetched.json"


@dataclass(frozen=True, slots=True)
class ArchiveSpec:
    """An archive of one commit of a repository.

    Attributes:
        url: where it is.
        commit: the full commit id; the data is known by it.
        sha256: hash of the archive's bytes, None where it is not known: hosts pack archives anew now and then.
        folders: the folders below the archive's root that are wanted.
        repository: where git fetches the commit's list of files from; without it and without a hash the user has to
            give one, or to trust the first download, whose hash is kept beside the data and asked of every later one.
    """

    url: str
    commit: str
    sha256: str | None
    folders: tuple[str, ...]
    repository: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The record in `fetched.json`."""

    url: str
    commit: str
    sha256: str
    files: int


def fetch(
    spec: ArchiveSpec,
    destination: Path,
    *,
    check: Callable[[Path], None],
    trust_first_download: bool = False,
) -> tuple[Fetched, bool]:
    """Makes sure that a folder holds an archive's content.

    Args:
        spec: the archive; `url` and `sha256` may be the user's.
        destination: the folder to make.
        check: looks at the unpacked folder before it is put in place, and raises if it is not what it should be.
        trust_first_download: take an archive of which no hash is known, and keep its hash.

    Returns:
        The record, and whether anything was fetched: False if it was there already.

    Raises:
        DataError: no hash to check by, nothing to be had at the address, a wrong hash, a damaged or hostile archive,
            no space, or a folder in the way that was not fetched by us.
    """
    destination = destination.expanduser().absolute()
    with disk_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(destination.with_name(f".{destination.name}.lock")):
            known = spec.sha256 or _kept_hash(destination, spec.commit)
            there = record_of(destination)
            if there and there.commit == spec.commit:
                _compare(there.sha256, known, destination / RECORD_NAME, "use another --output, or delete this folder")
                return there, False
            if not there and destination.exists() and any(destination.iterdir()):
                raise DataError(
                    "the folder is not empty and was not fetched by peft-eval",
                    place=str(destination),
                    remedy="name another folder with --output",
                )
            if known is None and not trust_first_download and spec.repository is None:
                raise _no_hash(spec)
            by_commit = known is None and not trust_first_download
            return _fetch(spec, destination, known, check, by_commit=by_commit), True


def _fetch(
    spec: ArchiveSpec, destination: Path, known: str | None, check: Callable[[Path], None], *, by_commit: bool
) -> Fetched:
    expected = files_of_commit(str(spec.repository), spec.commit, spec.folders) if by_commit else None
    archive = destination.with_name(f".{destination.name}-{spec.commit[:12]}.tar.gz.part")
    download(spec.url, archive)
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        _compare(
            found,
            known,
            without_secrets(spec.url),
            "try again, or name the official address or a mirror of it with --url",
        )
        with tempfile.TemporaryDirectory(prefix=f".{destination.name}-", dir=destination.parent) as temporary:
            folder = Path(temporary) / "data"
            folder.mkdir()
            files = unpack(archive, folder, spec.folders)
            if expected is not None:
                check_files(folder, expected, without_secrets(spec.url))
            check(folder)
            record = Fetched(without_secrets(spec.url), spec.commit, found, files)
            (folder / RECORD_NAME).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
            if spec.sha256 is None:
                keep_hashes(destination, {spec.commit: found})
            if destination.exists():
                destination.rename(Path(temporary) / "old")
            folder.rename(destination)
    except DataError:
        archive.unlink()  # resuming from it would only fail again
        raise
    archive.unlink()
    return record


def hash_file(destination: Path) -> Path:
    """Returns the file beside a folder that keeps the hashes of trusted first downloads."""
    return destination.with_name(f"{destination.name}.sha256.json")


def kept_hashes(destination: Path) -> dict[str, str]:
    """Returns the hashes of trusted first downloads that were kept beside a folder.

    Raises:
        DataError: the file that holds them is broken.
    """
    path = hash_file(destination)
    if not path.exists():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", place=str(path), remedy="delete it") from error
    if not isinstance(kept, dict):
        raise DataError("not a list of hashes", place=str(path), remedy="delete it")
    return kept


def _kept_hash(destination: Path, commit: str) -> str | None:
    return kept_hashes(destination).get(commit)


def keep_hashes(destination: Path, hashes: Mapping[str, str]) -> None:
    """Keeps hashes of a trusted download beside a folder."""
    kept = {**kept_hashes(destination), **hashes}
    write_whole(hash_file(destination), json.dumps(kept, indent=1) + "\n")


def record_of(destination: Path) -> Fetched | None:
    """Returns the record of a folder that was fetched, None for any other."""
    try:
        return Fetched(**json.loads((destination / RECORD_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _compare(found: str, known: str | None, place: str | Path, remedy: str) -> None:
    if known is not None and found != known:
        raise DataError(f"its sha256 is {found}, expected was {known}", place=str(place), remedy=remedy)


def _no_hash(spec: ArchiveSpec) -> DataError:
    return DataError(
        f"no hash is known of the archive of commit {spec.commit[:12]}, so it cannot be checked",
        place=without_secrets(spec.url),
        remedy="give one with --sha256, or accept what comes this time with --trust-first-download; "
        "its hash is then kept and asked of every later download",
    )


@contextlib.contextmanager
def disk_errors(destination: Path) -> Iterator[None]:
    """Turns what the disk refuses while a folder is made into an error for the user.

    Raises:
        DataError: no space, or no right to write there.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        free = shutil.disk_usage(next(path for path in destination.parents if path.exists())).free
        raise DataError(
            f"no space left ({free >> 20} MiB free)" if full else f"cannot be written: {error}",
            place=str(destination),
            remedy="free some space or name another folder with --output, and run it again"
            if full
            else "name another folder with --output",
        ) from error
