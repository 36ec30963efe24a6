"""Reads files that came from somebody else: plain files only, of a size that fits in memory, JSON without surprises.

What a stranger's folder can hold, and what happens here: a pipe or a device (opened without waiting, and refused), a
sparse file of gigabytes (its size is looked at first), a compressed file that grows a thousandfold (stopped at its
limit), JSON that costs far more memory than bytes, or that says a thing twice (refused before or while it is decoded).
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

MOST_JSON_BYTES = 1 << 26
MOST_DATA_BYTES = 1 << 28
MOST_LINE_BYTES = 1 << 26
# What a byte of JSON can cost in memory: an object some 200 bytes, a number some 40.
_MOST_CONTAINERS = 2_000_000
_MOST_VALUES = 8_000_000
# Text shrinks to a tenth by gzip, rarely to a fiftieth; zeros to a thousandth.
_MOST_GROWTH = 100
_GROWTH_ALLOWED_BYTES = 1 << 26
_BLOCK_BYTES = 1 << 20


class UnsafeFileError(ValueError):
    """A file that is no plain file, too large, or not what its name says."""


def open_plain(path: Path) -> IO[bytes]:
    """Opens a plain file for reading, without waiting for who would write to it.

    Raises:
        UnsafeFileError: it is a folder, a pipe, a socket or a device.
        OSError: it is not there or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafeFileError("not a plain file but a folder, a pipe or a device")
    return os.fdopen(descriptor, "rb")


def open_unpacked(path: Path) -> IO[bytes]:
    """Opens a plain file as `open_plain` does; what a `.gz` yields is decompressed, within bounds.

    Raises:
        UnsafeFileError, OSError: as `open_plain`; reading raises them too where a `.gz` grows without measure.
    """
    file = open_plain(path)
    if path.suffix != ".gz":
        return file
    packed = os.fstat(file.fileno()).st_size
    return io.BufferedReader(BoundedUnpacking(file, packed), _BLOCK_BYTES)


class BoundedUnpacking(io.RawIOBase):
    """A gzipped file's content, which ends with an error once it is a hundred times what is stored.

    Args:
        file: the stored bytes.
        packed_bytes: how many they are.
    """

    def __init__(self, file: IO[bytes], packed_bytes: int):
        self._file, self._unpacked = file, gzip.GzipFile(fileobj=file)
        self._most = max(_GROWTH_ALLOWED_BYTES, _MOST_GROWTH * packed_bytes)
        self._count = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer and returns how much came.

        Raises:
            UnsafeFileError: more came than any text would unpack to.
        """
        block = self._unpacked.read(min(len(buffer), _BLOCK_BYTES))
        self._count += len(block)
        if self._count > self._most:
            raise UnsafeFileError(f"it unpacks to more than {self._most:,} bytes, {_MOST_GROWTH} times what is stored")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        """Closes the file."""
        self._unpacked.close()
        self._file.close()
        super().close()


def read_bounded(path: Path, most_bytes: int = MOST_JSON_BYTES) -> bytes:
    """Returns a plain file's content, that of a `.gz` decompressed.

    Raises:
        UnsafeFileError: it is no plain file, or larger.
        OSError, EOFError, zlib.error: it is not there, cannot be read, or is not whole.
    """
    with open_unpacked(path) as file:
        if path.suffix != ".gz" and (size := os.fstat(file.fileno()).st_size) > most_bytes:
            raise UnsafeFileError(f"it has {size:,} bytes, more than the {most_bytes:,} that are read")
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise UnsafeFileError(f"it has more than the {most_bytes:,} bytes that are read")
    return content


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yields a UTF-8 file's lines with their numbers, one at a time; those of a `.gz` are decompressed.

    Raises:
        UnsafeFileError: it is no plain file, or a line is too long to be one.
        UnicodeDecodeError, OSError, EOFError, zlib.error: it cannot be read.
    """
    with open_unpacked(path) as file:
        number = 0
        while line := file.readline(MOST_LINE_BYTES + 1):
            number += 1
            if len(line) > MOST_LINE_BYTES:
                raise UnsafeFileError(f"line {number} has more than {MOST_LINE_BYTES:,} bytes")
            yield number, line.decode("utf-8").rstrip("\n")


def strict_json(content: bytes | str, *, infinity: bool = False) -> Any:
    """Decodes JSON that a stranger wrote.

    Args:
        content: the text; as bytes it has to be UTF-8.
        infinity: whether `Infinity` is a number, as in some models' configurations; `NaN` never is.

    Raises:
        ValueError: it is not JSON, names a key twice in one object, or has so many values that they would fill the
            memory; UnicodeDecodeError and UnsafeFileError are among these.
        RecursionError: it is nested without end.
    """
    if isinstance(content, bytes) and content.startswith(codecs.BOM_UTF8):
        raise UnsafeFileError("it begins with a byte order mark, which JSON must not have")
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    refuse_crowd(text)

    def constant(name: str) -> float:
        if name == "NaN" or not infinity:
            raise UnsafeFileError(f"{name} is not a number")
        return float(name.replace("Infinity", "inf"))

    return json.loads(text, object_pairs_hook=_each_once, parse_constant=constant)


def refuse_crowd(text: str) -> None:
    """Refuses JSON with so many values that decoding it would fill the memory.

    Raises:
        UnsafeFileError: it has.
    """
    containers, values = text.count("[") + text.count("{"), text.count(",")
    if containers > _MOST_CONTAINERS or values > _MOST_VALUES:
        raise UnsafeFileError(f"it holds some {max(containers, values):,} values, more than are decoded at once")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise UnsafeFileError(f"the key {shown(twice)} is there twice")
    return content


def shown(text: object, most: int = 80) -> str:
    """Returns a stranger's text for a message: quoted, control characters escaped, cut where it is long."""
    quoted = ascii(text) if not str(text).isprintable() else repr(text)
    return quoted if len(quoted) <= most else f"{quoted[: most - 3]}..."
