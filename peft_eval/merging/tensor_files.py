"""Safetensors files as places of bytes: where each tensor stands in a model's files, and where it will in new ones.

The format (github.com/huggingface/safetensors): eight bytes of header length, the header as JSON, then the tensors'
bytes. The library's writer wants a file's tensors in memory together, and its reader maps the file, whose pages then
count as this process's memory: for models larger than the memory both are in the way.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from peft_eval.checkpoint.reading import read_json
from peft_eval.errors import CheckpointError
from peft_eval.merging.large_files import read_at
from peft_eval.plain_files import shown, strict_json

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
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
# Where a file's tensors begin: a block of the disk, so that large reads and writes meet its borders.
_ALIGNMENT = 4096
_PIECE_BYTES = 1 << 24
MOST_HEADER_BYTES = 100_000_000  # as the library has it


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
        flat = torch.empty(self.bytes, dtype=torch.uint8)
        self.read_into(flat, 0)
        return flat.view(self.dtype).reshape(self.shape)

    def read_float32(self) -> torch.Tensor:
        """Reads the tensor as float32, a piece at a time, so that its own bytes take no memory beside it."""
        numbers = torch.empty(torch.Size(self.shape).numel(), dtype=torch.float32)
        piece = torch.empty(_PIECE_BYTES, dtype=torch.uint8)
        for first in range(0, self.bytes, _PIECE_BYTES):
            part = piece[: self.bytes - first]
            self.read_into(part, first)
            values = part.view(self.dtype)
            numbers[first // self.dtype.itemsize :][: len(values)] = values
        return numbers.view(self.shape)

    def read_into(self, buffer: torch.Tensor, first: int) -> None:
        """Fills a buffer of bytes with the tensor's own, from its byte `first` on.

        Raises:
            CheckpointError: the file ends before.
        """
        view, position = buffer.numpy().data, self.start + first
        descriptor = os.open(self.file, os.O_RDONLY)
        try:
            while view:
                count = read_at(descriptor, view, position)
                if not count:
                    raise CheckpointError(f"it ends inside {self.name}", place=str(self.file))
                view, position = view[count:], position + count
        finally:
            os.close(descriptor)


def weight_files(folder: Path) -> list[Path]:
    """Returns a model folder's safetensors files: those that transformers would read where there are others too.

    Raises:
        CheckpointError: the index names a file that is not there, or is no index.
    """
    index = folder / INDEX_NAME
    if (folder / SINGLE_NAME).is_file():
        return [folder / SINGLE_NAME]
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise CheckpointError("not an index of weights", place=str(index))
    names = sorted(set(named.values()))
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing", place=str(folder), remedy="fetch it again")
    return [folder / name for name in names]


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Returns every tensor of a model folder by name, in the order of files and bytes.

    Args:
        folder: a folder with `*.safetensors`.

    Raises:
        CheckpointError: there are none, a file is not whole, or holds a dtype that is not known.
    """
    found: list[StoredTensor] = []
    for file in weight_files(folder):
        header, first = _read_header(file)
        size = file.stat().st_size
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            try:
                kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
                dtype = DTYPES.get(kind)
                if dtype is not None and (begin < 0 or end - begin != math.prod(shape) * dtype.itemsize):
                    raise ValueError(f"{shape} of {kind} in bytes {begin} to {end}")
            except (KeyError, TypeError, ValueError) as error:
                raise CheckpointError(f"{shown(name)} is no tensor: {shown(str(error))}", place=str(file)) from error
            if dtype is None:
                raise CheckpointError(f"{shown(name)} has dtype {shown(kind)}, not known here", place=str(file))
            if first + end > size:
                raise CheckpointError(f"it ends inside {shown(name)}", place=str(file), remedy="fetch it again")
            found.append(StoredTensor(name, dtype, shape, file, first + begin, end - begin))
    if not found:
        raise CheckpointError(
            "there are no weights (*.safetensors)", place=str(folder), remedy="save it with safe_serialization=True"
        )
    names = [tensor.name for tensor in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CheckpointError(f"two files hold a tensor {twice}", place=str(folder), remedy="remove one of them")
    found.sort(key=lambda tensor: (tensor.file, tensor.start))
    return {tensor.name: tensor for tensor in found}


def _read_header(file: Path) -> tuple[dict[str, dict], int]:
    """Returns a file's header and where its tensors begin."""
    with file.open("rb") as opened:
        try:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(file.stat().st_size, MOST_HEADER_BYTES):
                raise ValueError("its header is longer than the file, or than any header")
            header = strict_json(opened.read(length))
            if not isinstance(header, dict):
                raise ValueError("its header is no JSON object")
        except (struct.error, ValueError, RecursionError) as error:
            raise CheckpointError(f"not a safetensors file: {error}", place=str(file)) from error
    return header, 8 + length


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


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that will be written."""

    name: str
    tensors: tuple[PlannedTensor, ...]

    @property
    def tensor_bytes(self) -> int:
        """Size of its tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    def header(self) -> bytes:
        """Returns what stands before the tensors, which follow one another in order."""
        content: dict[str, object] = {"__metadata__": {"format": "pt"}}
        position = 0
        for tensor in self.tensors:
            content[tensor.name] = {
                "dtype": NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [position, position + tensor.bytes],
            }
            position += tensor.bytes
        text = json.dumps(content, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        return struct.pack("<Q", len(text)) + text


def plan_files(tensors: Iterable[PlannedTensor], shard_bytes: int) -> list[PlannedFile]:
    """Deals tensors into files as transformers does: in order, at most `shard_bytes` each.

    A larger tensor gets a file of its own.
    """
    shards: list[list[PlannedTensor]] = [[]]
    room = shard_bytes
    for tensor in tensors:
        if shards[-1] and tensor.bytes > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(tensor)
        room -= tensor.bytes
    return [PlannedFile(name, tuple(shard)) for name, shard in zip(shard_names(len(shards)), shards, strict=True)]


def shard_names(count: int) -> list[str]:
    """Returns the names that transformers gives to a model's files."""
    if count == 1:
        return [SINGLE_NAME]
    return [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def write_index(folder: Path, files: list[PlannedFile]) -> None:
    """Writes which file holds which tensor, as transformers does; nothing where one file holds all."""
    if len(files) == 1:
        return
    tensors = [tensor for file in files for tensor in file.tensors]
    index = {
        "metadata": {
            "total_parameters": sum(torch.Size(tensor.shape).numel() for tensor in tensors),
            "total_size": sum(tensor.bytes for tensor in tensors),
        },
        "weight_map": dict(sorted((tensor.name, file.name) for file in files for tensor in file.tensors)),
    }
    (folder / INDEX_NAME).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
