"""Fetches the few files of a data set from pinned addresses: each resumes, each is checked, all appear in one step.

A file is checked by its SHA-256 where that is known, else against what git lists for the commit, else by a hash that
the user gives or a first download that the user trusts. Files that came whole are not asked for again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from peft_eval.data.commit_files import files_of_commit, is_file_of_commit
from peft_eval.data.download import download, without_secrets
from peft_eval.data.fetch import RECORD_NAME, Fetched, disk_errors, keep_hashes, kept_hashes, record_of
from peft_eval.errors import DataError, PeftEvalError, unknown_name


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        path: where it goes, below the data set's folder.
        source: where it is, below the file set's base address.
        sha256: hash of its bytes, None where it is not known to us.
    """

    path: str
    source: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of a data set at one commit.

    Attributes:
        base: the address below which the files are.
        commit: the full commit id; the data is known by it.
        files: what to fetch.
        repository: where git fetches the commit's list of files from, for files whose hash is not known.
    """

    base: str
    commit: str
    files: tuple[RemoteFile, ...]
    repository: str | None = None


def fetch_files(
    spec: FileSet,
    destination: Path,
    *,
    check: Callable[[Path], None],
    given: Mapping[str, str] | None = None,
    trust_first_download: bool = False,
) -> tuple[Fetched, bool]:
    """Makes sure that a folder holds the files.

    Args:
        spec: what to fetch; `base` may be the user's mirror.
        destination: the folder to make.
        check: looks at the files before they are put in place, and raises if they are not what they should be.
        given: hashes from the user, by path.
        trust_first_download: take files of which no hash is known, and keep their hashes.

    Returns:
        The record, and whether anything was fetched: False if it was there already.

    Raises:
        ConfigError: a hash is given for a file that is not one of them.
        DataError: no hash to check by, nothing to be had at an address, a wrong hash, no space, or a folder in the way
            that was not fetched by us.
    """
    destination = destination.expanduser().absolute()
    for path in given or {}:
        if path not in {file.path for file in spec.files}:
            raise unknown_name("file", path, [file.path for file in spec.files], place="--sha256")
    with disk_errors(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(destination.with_name(f".{destination.name}.lock")):
            there = record_of(destination)
            if there and there.commit == spec.commit:
                return there, False
            if not there and destination.exists() and any(destination.iterdir()):
                raise DataError(
                    "the folder is not empty and was not fetched by peft-eval",
                    place=str(destination),
                    remedy="name another folder with --output",
                )
            return _fetch(spec, destination, check, dict(given or {}), trust_first_download), True


def _fetch(
    spec: FileSet, destination: Path, check: Callable[[Path], None], given: dict[str, str], trust: bool
) -> Fetched:
    kept = kept_hashes(destination)
    known = {
        file.path: file.sha256 or given.get(file.path) or kept.get(f"{spec.commit}:{file.path}") for file in spec.files
    }
    unknown = [file for file in spec.files if known[file.path] is None]
    blobs: dict[str, str] = {}
    if unknown and not trust:
        if spec.repository is None:
            raise _no_hashes(spec, unknown)
        blobs = files_of_commit(spec.repository, spec.commit, [])
    parts = destination.with_name(f".{destination.name}-{spec.commit[:12]}.parts")
    found = {file.path: _fetch_one(spec, file, parts, known[file.path], blobs) for file in spec.files}
    for path in [path for path in parts.rglob("*") if path.is_file()]:
        if path.relative_to(parts).as_posix() not in found:
            path.unlink()
    try:
        check(parts)
    except PeftEvalError:
        shutil.rmtree(parts)  # the same files would only fail again
        raise
    record = Fetched(without_secrets(spec.base), spec.commit, _hash_of_all(found), len(found))
    (parts / RECORD_NAME).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    if unknown:
        keep_hashes(destination, {f"{spec.commit}:{file.path}": found[file.path] for file in unknown})
    if destination.exists():
        shutil.rmtree(destination)
    parts.rename(destination)
    return record


def _fetch_one(spec: FileSet, file: RemoteFile, parts: Path, known: str | None, blobs: Mapping[str, str]) -> str:
    """Fetches a file, unless it came whole before, and returns its hash."""
    address = f"{spec.base.rstrip('/')}/{file.source}"
    whole = parts / file.path
    whole.parent.mkdir(parents=True, exist_ok=True)
    if not whole.is_file():
        part = whole.with_name(f"{whole.name}.part")
        download(address, part)
        part.rename(whole)
    found = _sha256(whole)
    problem = f"its sha256 is {found}, expected was {known}" if known not in (None, found) else None
    if known is None and blobs and not is_file_of_commit(whole, found, blobs.get(file.source)):
        problem = f"it is not the file of commit {spec.commit[:12]}"
    if problem:
        whole.unlink()  # resuming from it would only fail again
        raise DataError(problem, place=without_secrets(address), remedy="try again, or name a mirror with --url")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_of_all(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _no_hashes(spec: FileSet, unknown: list[RemoteFile]) -> DataError:
    names = ", ".join(file.path for file in unknown)
    return DataError(
        f"no hash is known of {names} at commit {spec.commit[:12]}, so nothing can be checked",
        place=without_secrets(spec.base),
        remedy="give them with --sha256 FILE=HASH, or accept what comes this time with --trust-first-download; "
        "the hashes are then kept and asked of every later download",
    )
