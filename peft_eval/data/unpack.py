"""Unpacks an archive from the network without trusting it.

Nothing of the archive decides where a file goes beyond names that were checked: no absolute path, no `..`, no links,
no devices, limits on number and size. Files are written by us, one by one, as new plain files.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from peft_eval.errors import DataError
from peft_eval.plain_files import BoundedUnpacking, UnsafeFileError, open_plain, shown


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What is refused as too much: a bomb, not data.

    Attributes:
        files: entries in the archive, wanted or not.
        file_bytes: size of one.
        total_bytes: size of all that is wanted.
    """

    files: int = 20_000
    file_bytes: int = 1 << 29
    total_bytes: int = 1 << 35


_HEADER_BYTES = 1 << 22  # tarfile reads a header at once, its extensions and names included


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
        with _opened(archive) as content, tarfile.open(fileobj=content, mode="r:") as tar:
            for number, member in enumerate(tar, start=1):
                path = _inner_path(member, archive)
                if number > limits.files or member.size > limits.file_bytes:
                    raise _refused(archive, f"it has too many or too large files, seen at {shown(member.name)}")
                if path is None or path.parts[0] not in wanted or member.isdir():
                    continue
                if not member.isreg():
                    raise _refused(archive, f"{shown(member.name)} is a link or a device")
                written, total = written + 1, total + member.size
                if total > limits.total_bytes:
                    raise _refused(archive, f"it has too many or too large files, seen at {shown(member.name)}")
                _write(tar, member, folder.joinpath(*path.parts), archive)
    except UnsafeFileError as error:
        raise _refused(archive, str(error)) from error
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise DataError(f"not a whole .tar.gz: {error}", place=str(archive), remedy="fetch it again") from error
    return written


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    """Opens an archive's content as a file that gives no more at once, and in all, than an archive of data needs."""
    with open_plain(archive) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        content = BoundedUnpacking(file, archive.stat().st_size) if packed else file
        yield cast("IO[bytes]", _InPieces(content))


class _InPieces:
    """A file without seeking that refuses to read a lot at once; going forward reads."""

    def __init__(self, file: Any):
        self._file, self._position = io.BufferedReader(file, 1 << 16) if isinstance(file, io.RawIOBase) else file, 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        while self._position < position and self.read(min(position - self._position, 1 << 16)):
            pass
        return self._position

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= _HEADER_BYTES:
            raise UnsafeFileError(f"a header of {count:,} bytes")
        block: bytes = self._file.read(count)
        self._position += len(block)
        return block


def _inner_path(member: tarfile.TarInfo, archive: Path) -> PurePosixPath | None:
    """Returns a member's path below the archive's root folder, None for the root itself."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or any(sign in member.name for sign in "\\:\0"):
        raise _refused(archive, f"the path {shown(member.name)} leads out of its folder")
    return PurePosixPath(*path.parts[1:]) if len(path.parts) > 1 else None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, archive: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise _refused(archive, f"{shown(member.name)} has no content")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with content, target.open("xb") as file:
            shutil.copyfileobj(content, file)
    except FileExistsError:
        raise _refused(archive, f"{shown(member.name)} is in it twice") from None


def _refused(archive: Path, problem: str) -> DataError:
    return DataError(
        f"the archive is refused: {problem}", place=str(archive), remedy="fetch it from the official address"
    )
