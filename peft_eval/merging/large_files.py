"""Reading and writing at positions of a file, for large files without leaving their pages in the system's cache.

Filling the cache with a model larger than it is dear (the kernel has to find pages for all of it), and pushes out what
was of use there. Pages that were cached before are used as they are.
"""

from __future__ import annotations

import errno
import os

LARGE_BYTES = 1_000_000_000
_RWF_DONTCACHE = 0x80  # linux/fs.h; Python's os does not name it yet
_UNKNOWN = (errno.EOPNOTSUPP, errno.EINVAL)  # a kernel before 6.14, or a file system that cannot


def read_at(descriptor: int, into: memoryview, position: int) -> int:
    """Reads from a position of a file and returns how many bytes came, 0 at its end."""
    if os.fstat(descriptor).st_size >= LARGE_BYTES:
        try:
            return os.preadv(descriptor, [into], position, _RWF_DONTCACHE)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
    return os.preadv(descriptor, [into], position)


def write_at(descriptor: int, content: memoryview, position: int, *, large: bool) -> int:
    """Writes at a position of a file, which will be large or not, and returns how many bytes went."""
    if large and hasattr(os, "pwritev"):
        try:
            return os.pwritev(descriptor, [content], position, _RWF_DONTCACHE)
        except OSError as error:
            if error.errno not in _UNKNOWN:
                raise
    return os.pwrite(descriptor, content, position)
