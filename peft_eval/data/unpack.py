"""Unpacks an archive from the network without trusting it.

Nothing of the archive decides where a file goes beyond names that were checked: no absolute path, no `..`, no links,
no devices, limits on number and size. Files are written by us, one by one, as new plain files.
"""

from __future__ import annotations

import shutil
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from peft_eval.errors import DataError


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What is refused as too much: a bomb, not data."""

    files: int = 20_000
    file_bytes: int = 1 << 29
    total_bytes: int = 1 << 35


def unpack(archive: Path, folder: Path, keep: Iterable[str], limits: UnpackLimits = UnpackLimits()) -> int:
    """Unpacks some top folders of a `.tar.gz` or `.tar` whose content lies in one root folder, as GitHub's do.

    Args:
        archive: the file.
        folder: where to; must not hold any of the files.
        keep: the folders below the root that are wanted; the rest is checked for its names but not written.
        limits: when to stop.

    Returns:
        The number of files written.

    Raises:
        DataError: the archive is damaged, hostile or over a limit, or the disk is full.
    """
    wanted = set(keep)
    written = total = 0
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                path = _inner_path(member, archive)
                if path is None or path.parts[0] not in wanted or member.isdir():
                    continue
                if not member.isreg():
                    raise _refused(archive, f"{member.name!r} is a link or a device")
                written, total = written + 1, total + member.size
                if written > limits.files or member.size > limits.file_bytes or total > limits.total_bytes:
                    raise _refused(archive, f"it has too many or too large files, seen at {member.name!r}")
                _write(tar, member, folder.joinpath(*path.parts), archive)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"not a whole .tar.gz: {error}", place=str(archive), remedy="fetch it again") from error
    return written


def _inner_path(member: tarfile.TarInfo, archive: Path) -> PurePosixPath | None:
    """Returns a member's path below the archive's root folder, None for the root itself."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or any(sign in member.name for sign in "\\:\0"):
        raise _refused(archive, f"the path {member.name!r} leads out of its folder")
    return PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 else None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, archive: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise _refused(archive, f"{member.name!r} has no content")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with content, target.open("xb") as file:
            shutil.copyfileobj(content, file)
    except FileExistsError:
        raise _refused(archive, f"{member.name!r} is in it twice") from None


def _refused(archive: Path, problem: str) -> DataError:
    return DataError(
        f"the archive is refused: {problem}", place=str(archive), remedy="fetch it from the official address"
    )
