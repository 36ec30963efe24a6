"""Writing a model's files block by block: several threads make blocks and write them, one hashes them in order.

Reading, arithmetic, writing and hashing all run outside Python's lock, so they overlap. At any time only a few blocks
are in memory.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from peft_eval.merging.large_files import LARGE_BYTES, write_at
from peft_eval.merging.tensor_files import PlannedFile, PlannedTensor

BLOCK_BYTES = 1 << 24
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Block:
    """A stretch of a tensor's bytes in its file.

    Attributes:
        bytes: how many.
        fill: writes them into a buffer of that many bytes (uint8).
    """

    bytes: int
    fill: Callable[[torch.Tensor], None]


class TensorSource(Protocol):
    """A tensor to be written."""

    @property
    def planned(self) -> PlannedTensor:
        """Its name, dtype and shape."""

    def blocks(self) -> Iterator[Block]:
        """Yields its bytes in order."""


def write_files(
    folder: Path,
    files: list[PlannedFile],
    sources: Mapping[str, TensorSource],
    on_bytes: Callable[[int], None] = lambda count: None,
) -> dict[str, str]:
    """Writes safetensors files and flushes them to the disk.

    Args:
        folder: an existing folder.
        files: what each file holds.
        sources: what yields each tensor's blocks in order, by name; they may be filled in any order.
        on_bytes: told how many bytes were written since it was last called.

    Returns:
        The hex SHA-256 of each file by name.
    """
    writer = _Writer(folder, on_bytes)
    try:
        hashes = {file.name: writer.write(file, sources) for file in files}
        writer.wait_for_the_disk()
        return hashes
    finally:
        writer.close()


@dataclass(frozen=True)
class _Target:
    """A file that is being written."""

    descriptor: int
    large: bool

    def write(self, content: memoryview, position: int) -> None:
        while content:
            count = write_at(self.descriptor, content, position, large=self.large)
            content, position = content[count:], position + count


class _Writer:
    """The threads and buffers behind `write_files`."""

    def __init__(self, folder: Path, on_bytes: Callable[[int], None]):
        self._folder, self._on_bytes = folder, on_bytes
        workers = min(_MOST_WORKERS, torch.get_num_threads())
        self._threads_before = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(workers, "merge", initializer=torch.set_num_threads, initargs=(1,))
        self._flusher = ThreadPoolExecutor(1, "flush")
        self._flushes: list[Future[None]] = []
        self._window = workers + 2
        self._free = [torch.empty(BLOCK_BYTES, dtype=torch.uint8) for _ in range(self._window)]
        self._stopped = threading.Event()

    def write(self, file: PlannedFile, sources: Mapping[str, TensorSource]) -> str:
        """Writes one file and returns its hash; its last bytes may not have reached the disk yet."""
        descriptor = os.open(self._folder / file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            header = file.header()
            target = _Target(descriptor, large=file.tensor_bytes >= LARGE_BYTES)
            target.write(memoryview(header), 0)
            digest = hashlib.sha256(header)
            position = len(header)
            under_way: deque[tuple[Future[torch.Tensor], torch.Tensor | None]] = deque()
            for tensor in file.tensors:
                for block in sources[tensor.name].blocks():
                    if len(under_way) == self._window:
                        self._take(under_way, digest)
                    buffer = self._free.pop() if block.bytes <= BLOCK_BYTES else None
                    under_way.append((self._pool.submit(self._make, target, position, block, buffer), buffer))
                    position += block.bytes
            while under_way:
                self._take(under_way, digest)
        except BaseException:
            self.close()
            os.close(descriptor)
            raise
        self._flushes.append(self._flusher.submit(_flush, descriptor))
        return digest.hexdigest()

    def wait_for_the_disk(self) -> None:
        """Returns once all files are on it."""
        for flush in self._flushes:
            flush.result()

    def close(self) -> None:
        """Ends the threads; blocks that are being made are finished, others are not begun."""
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)
        self._flusher.shutdown()
        torch.set_num_threads(self._threads_before)

    def _make(self, target: _Target, position: int, block: Block, buffer: torch.Tensor | None) -> torch.Tensor:
        if buffer is None:
            buffer = torch.empty(block.bytes, dtype=torch.uint8)
        content = buffer[: block.bytes]
        if not self._stopped.is_set():
            block.fill(content)
            target.write(content.numpy().data, position)
        return content

    def _take(self, under_way: deque[tuple[Future[torch.Tensor], torch.Tensor | None]], digest: hashlib._Hash) -> None:
        future, buffer = under_way.popleft()
        content = future.result()
        digest.update(content.numpy().data)
        if buffer is not None:
            self._free.append(buffer)
        self._on_bytes(len(content))


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
