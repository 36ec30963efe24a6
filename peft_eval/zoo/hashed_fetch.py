"""Hashes a file while it is fetched, in a thread that reads what has come, so that the hash is there with its end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

_BLOCK_BYTES = 1 << 20
_LOOK_EVERY_SECONDS = 0.01


def fetched_sha256(fetch: Callable[[], None], path: Path) -> str:
    """Fetches a file, flushes it to the disk, and returns its hash.

    Args:
        fetch: writes the file, from its start or after what is there; may begin anew.
        path: the file.

    Returns:
        Its SHA-256; of a file that was written anew meanwhile it can be wrong, so hash again before you refuse.
    """
    came = Event()
    path.touch()
    with ThreadPoolExecutor(1) as pool:
        hashing = pool.submit(_follow, path, came)
        try:
            fetch()
        finally:
            came.set()
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return hashing.result()


def _follow(path: Path, came: Event) -> str:
    with path.open("rb", buffering=0) as file:
        digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
        while True:
            is_whole = came.is_set()  # asked before reading: what follows is then all there is
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)
                digest = hashlib.sha256()
            while count := file.readinto(block):
                digest.update(block[:count])
            if is_whole:
                return digest.hexdigest()
            came.wait(_LOOK_EVERY_SECONDS)
