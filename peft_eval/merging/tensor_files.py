"""Reading and writing safetensors one tensor at a time, through plain file reads instead of a memory map.

The format (github.com/huggingface/safetensors): eight bytes of header length, the header as JSON, then the tensors'
bytes. The library's writer wants a file's tensors in memory together, and its reader maps the file, whose pages then
count as this process's memory: for models larger than the memory both are in the way.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

INDEX_NAME = "model.safetensors.index.json"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
_COPY_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file, not read yet.

    Attributes:
        name: its name in the model.
        dtype: how its numbers are stored.
        shape: its shape.
        file: the file.
        start: position of its first byte in the file.
        bytes: how many it has.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    file: Path
    start: int
    bytes: int

    def read(self) -> torch.Tensor:
        """Reads the tensor into memory of its own."""
        buffer = bytearray(self.bytes)
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start)
            view = memoryview(buffer)
            done = 0
            while done < self.bytes:
                count = file.readinto(view[done:])
                if not count:
                    raise OSError(f"{self.file} ends inside {self.name}")
                done += count
        flat = torch.frombuffer(buffer, dtype=self.dtype) if self.bytes else torch.empty(0, dtype=self.dtype)
        return flat.reshape(self.shape)

    def copy_to(self, target: BinaryIO) -> None:
        """Appends the tensor's bytes to an unbuffered file as they are, in the kernel where it can do so."""
        with self.file.open("rb", buffering=0) as source:
            start, left = self.start, self.bytes
            while left:
                try:
                    count = os.copy_file_range(source.fileno(), target.fileno(), left, start)
                except OSError:  # another file system, or one that cannot
                    source.seek(start)
                    count = _write_all(target, source.read(min(left, _COPY_BYTES)))
                if not count:
                    raise OSError(f"{self.file} ends inside {self.name}")
                start, left = start + count, left - count


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Returns every tensor of a model folder by name, in the order of files and bytes.

    Args:
        folder: a folder with `*.safetensors`.

    Raises:
        ValueError: a header that cannot be read or a dtype that is not known; the file is named.
    """
    found: list[StoredTensor] = []
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            try:
                (length,) = struct.unpack("<Q", opened.read(8))
                header = json.loads(opened.read(length))
            except (struct.error, ValueError, OverflowError, MemoryError) as error:
                raise ValueError(f"{file}: not a safetensors file: {error}") from error
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] not in DTYPES:
                raise ValueError(f"{file}: {name} has dtype {entry['dtype']}, which is not known here")
            begin, end = entry["data_offsets"]
            found.append(
                StoredTensor(name, DTYPES[entry["dtype"]], tuple(entry["shape"]), file, 8 + length + begin, end - begin)
            )
    found.sort(key=lambda tensor: (tensor.file, tensor.start))
    return {tensor.name: tensor for tensor in found}


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor that will be written: its name, dtype and shape are known before its numbers are."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def plan_shards(tensors: Iterable[PlannedTensor], shard_bytes: int) -> list[list[PlannedTensor]]:
    """Deals tensors into files of at most `shard_bytes` each, in order; a larger tensor gets a file of its own."""
    shards: list[list[PlannedTensor]] = [[]]
    room = shard_bytes
    for tensor in tensors:
        if shards[-1] and tensor.bytes > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(tensor)
        room -= tensor.bytes
    return shards


def write_shards(
    folder: Path, shards: list[list[PlannedTensor]], values: Iterator[torch.Tensor | StoredTensor]
) -> None:
    """Writes a model's files in Hugging Face's layout, tensor by tensor.

    Args:
        folder: an existing folder.
        shards: what each file holds.
        values: the numbers, in the same order; a `StoredTensor` is copied from its file as it is.

    Raises:
        ValueError: a value's dtype or size is not what was planned.
    """
    names = shard_names(len(shards))
    weight_map: dict[str, str] = {}
    for name, shard in zip(names, shards, strict=True):
        with (folder / name).open("wb", buffering=0) as file:
            _write_all(file, _header(shard))
            for planned in shard:
                _append(file, planned, next(values))
                weight_map[planned.name] = name
    if len(names) > 1:
        total = sum(tensor.bytes for shard in shards for tensor in shard)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def shard_names(count: int) -> list[str]:
    """Returns the names that transformers gives to a model's files."""
    if count == 1:
        return ["model.safetensors"]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _header(tensors: list[PlannedTensor]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.bytes],
        }
        position += tensor.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight
    return struct.pack("<Q", len(text)) + text


def _append(file: BinaryIO, planned: PlannedTensor, value: torch.Tensor | StoredTensor) -> None:
    size = value.bytes if isinstance(value, StoredTensor) else value.numel() * value.dtype.itemsize
    if value.dtype != planned.dtype or size != planned.bytes:
        raise ValueError(f"{planned.name} was planned as {planned.bytes} bytes of {planned.dtype}")
    if isinstance(value, StoredTensor):
        value.copy_to(file)
    else:
        _write_all(file, value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _write_all(file: BinaryIO, content: Any) -> int:
    view = memoryview(content).cast("B")
    left = view
    while left:
        left = left[file.write(left) :]
    return len(view)
