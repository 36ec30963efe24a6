"""Which files a commit holds, proven by the commit's id alone.

A git commit id is a hash over its tree, and the tree over every file. So the id that we pin is a hash of the data
already: git fetches the commit and its trees (not the files, a few hundred kilobytes), checks them against the id,
and lists each file's blob id, with which files from any other place (an archive, a mirror) are compared.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from peft_eval.errors import DataError

_TIMEOUT_SECONDS = 300.0
_NO_OTHER = "give the archive's hash with --sha256, or accept what comes this time with --trust-first-download"


def files_of_commit(repository: str, commit: str, folders: Iterable[str]) -> dict[str, str]:
    """Returns the git blob id of every file below some folders of a commit, by its path.

    Args:
        repository: the address that git fetches from.
        commit: the full commit id.
        folders: folders at the repository's root.

    Raises:
        DataError: git is not there, the server does not give the commit, or a folder is not in it.
    """
    with tempfile.TemporaryDirectory(prefix="peft-eval-git-") as scratch:
        _git(scratch, "init", "--quiet", "--bare")
        _git(scratch, "fetch", "--quiet", "--depth=1", "--filter=blob:none", "--no-tags", repository, commit)
        listed = _git(scratch, "ls-tree", "-r", "-z", commit, "--", *(f"{folder}/" for folder in folders))
    files: dict[str, str] = {}
    for entry in filter(None, listed.split("\0")):
        kind, _, path = entry.partition("\t")
        _, name, blob = kind.split()
        if name == "blob":
            files[path] = blob
    for folder in folders:
        if not any(path.startswith(f"{folder}/") for path in files):
            raise DataError(f"commit {commit[:12]} has no folder {folder}/", place=repository)
    return files


def check_files(folder: Path, expected: Mapping[str, str], place: str) -> None:
    """Checks that a folder holds exactly the files of a commit.

    Args:
        folder: where the files are.
        expected: what `files_of_commit` returned.
        place: where they came from, for the error.

    Raises:
        DataError: files are missing, superfluous or have another content; up to three of each are named.
    """
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    wrong = {
        "missing": sorted(expected.keys() - found.keys()),
        "not of the commit": sorted(found.keys() - expected.keys()),
        "changed": sorted(name for name in expected.keys() & found.keys() if blob_id(found[name]) != expected[name]),
    }
    named = [f"{len(names)} {fault} ({', '.join(names[:3])})" for fault, names in wrong.items() if names]
    if named:
        raise DataError(
            f"its files are not those of the pinned commit: {'; '.join(named)}",
            place=place,
            remedy="try again, or name the official address or a mirror of it with --url",
        )


def blob_id(path: Path) -> str:
    """Returns git's id of a file: SHA-1 over `blob`, its length, a zero byte and its content."""
    return _blob_id(path.read_bytes())


def is_file_of_commit(path: Path, sha256: str, blob: str | None) -> bool:
    """Tells whether a file is what a commit holds, by itself or, for Git LFS, by a pointer with its SHA-256."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {path.stat().st_size}\n"
    return blob in (blob_id(path), _blob_id(pointer.encode()))


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _git(folder: str, *arguments: str) -> str:
    # The user's own git settings may rewrite addresses, as behind a proxy, but nothing may ask for a password.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise DataError(
            "git is not there, so the archive cannot be checked", remedy=f"install git; or {_NO_OTHER}"
        ) from None
    except subprocess.TimeoutExpired:
        raise DataError(
            f"git {arguments[0]} took over {_TIMEOUT_SECONDS:g} s", remedy=f"try again; or {_NO_OTHER}"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(f"git {arguments[0]} failed: {reason}", remedy=f"check the network; or {_NO_OTHER}")
    return done.stdout
