"""Where each tensor of the folder to be written comes from: bytes of the base, rows with a change added, a whole merge.

A source tells how its tensor will be stored and yields it in blocks, which several threads may fill at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from peft_eval.errors import ConfigError
from peft_eval.merging.block_writer import BLOCK_BYTES, Block, TensorSource
from peft_eval.merging.low_rank import LowRankChange
from peft_eval.merging.merger import AdapterMerger
from peft_eval.merging.tensor_files import PlannedTensor, StoredTensor


@dataclass(frozen=True)
class Copied:
    """A tensor as it is in the base's file, or cast."""

    stored: StoredTensor
    planned: PlannedTensor

    def blocks(self) -> Iterator[Block]:
        """Yields its bytes in order."""
        count = torch.Size(self.planned.shape).numel()
        for first, numbers in _stretches(count, BLOCK_BYTES // self.planned.dtype.itemsize):
            yield Block(numbers * self.planned.dtype.itemsize, self._filling(first))

    def _filling(self, first: int) -> Callable[[torch.Tensor], None]:
        def fill(buffer: torch.Tensor) -> None:
            values = _read(self.stored, buffer, first, self.planned.dtype)
            if values.dtype is not self.planned.dtype:
                cast = buffer.view(self.planned.dtype)
                cast.copy_(values)
                _refuse_overflow(cast, self.planned)

        return fill


@dataclass(frozen=True)
class WithChange:
    """A weight to which a low-rank change is added row by row, in float32 and rounded once."""

    stored: StoredTensor
    planned: PlannedTensor
    change: LowRankChange

    def blocks(self) -> Iterator[Block]:
        """Yields its bytes in order, whole rows at a time."""
        rows, width = self.planned.shape
        row_bytes = width * self.planned.dtype.itemsize
        for first, count in _stretches(rows, max(1, BLOCK_BYTES // row_bytes)):
            yield Block(count * row_bytes, self._filling(first))

    def _filling(self, first: int) -> Callable[[torch.Tensor], None]:
        def fill(buffer: torch.Tensor) -> None:
            width = self.planned.shape[1]
            values = _read(self.stored, buffer, first * width, self.planned.dtype).view(-1, width)
            out = buffer.view(self.planned.dtype).view(-1, width)
            self.change.add_to(values, first, out)
            _refuse_overflow(out, self.planned)

        return fill


@dataclass(frozen=True)
class Whole:
    """A tensor that is made at once: one that the layer's own merge gives, or that the base has not."""

    planned: PlannedTensor
    make: Callable[[], torch.Tensor]

    def blocks(self) -> Iterator[Block]:
        """Yields all of it as one block."""

        def fill(buffer: torch.Tensor) -> None:
            out = buffer.view(self.planned.dtype).view(self.planned.shape)
            out.copy_(self.make())
            _refuse_overflow(out, self.planned)

        yield Block(self.planned.bytes, fill)


def copies(stored: dict[str, StoredTensor], dtype: torch.dtype | None) -> dict[str, TensorSource]:
    """Returns a model's tensors as they are, or cast.

    Args:
        stored: the model's tensors.
        dtype: dtype of all floating-point tensors; None keeps each tensor's own.
    """
    return {name: Copied(tensor, _planned(name, tensor.dtype, tensor.shape, dtype)) for name, tensor in stored.items()}


def merged_sources(
    merger: AdapterMerger, stored: dict[str, StoredTensor], dtype: torch.dtype | None
) -> dict[str, TensorSource]:
    """Returns the tensors of the merged model, in the order of the base's files.

    Args:
        merger: merges the adapter.
        stored: the base's tensors.
        dtype: dtype of all floating-point tensors; None keeps each tensor's own.
    """
    one_at_a_time = _OneAtATime()
    sources: dict[str, TensorSource] = {}
    for name, shape in merger.merged_shapes.items():
        tensor = stored.get(name)
        if tensor is None:
            planned = _planned(name, merger.extra_dtype, shape, dtype)
            sources[name] = Whole(planned, one_at_a_time.made(partial(merger.extra_tensor, name)))
            continue
        planned = _planned(name, tensor.dtype, shape, dtype)
        if merger.leaves_alone(name):
            sources[name] = Copied(tensor, planned)
        elif change := merger.low_rank_change(name):
            sources[name] = WithChange(tensor, planned, change)
        else:
            merge = one_at_a_time.made(partial(_merge, merger, tensor))
            sources[name] = Whole(planned, merge)
    return sources


class _OneAtATime:
    """Keeps whole merges from running side by side, each of which needs memory for its tensor; it has all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = torch.get_num_threads()

    def made(self, make: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Returns the same function, waiting for its turn."""

        def wait_and_make() -> torch.Tensor:
            with self._lock:
                before = torch.get_num_threads()
                torch.set_num_threads(self._threads)
                try:
                    return make()
                finally:
                    torch.set_num_threads(before)

        return wait_and_make


def _merge(merger: AdapterMerger, stored: StoredTensor) -> torch.Tensor:
    return merger.merge(stored.name, stored.read())


def _planned(name: str, own: torch.dtype, shape: tuple[int, ...], dtype: torch.dtype | None) -> PlannedTensor:
    return PlannedTensor(name, dtype if dtype is not None and own.is_floating_point else own, shape)


def _stretches(count: int, most: int) -> Iterator[tuple[int, int]]:
    """Yields beginnings and lengths of stretches of at most `most` that make up `count`."""
    for first in range(0, count, most):
        yield first, min(most, count - first)


def _read(stored: StoredTensor, buffer: torch.Tensor, first: int, dtype: torch.dtype) -> torch.Tensor:
    """Reads as many numbers as the buffer has room for in `dtype`; into the buffer itself where the dtype is the same.

    Returns:
        The numbers in their stored dtype, flat.
    """
    size = stored.dtype.itemsize
    numbers = len(buffer) // dtype.itemsize
    into = buffer if stored.dtype is dtype else torch.empty(numbers * size, dtype=torch.uint8)
    stored.read_into(into, first * size)
    return into.view(stored.dtype)


def _refuse_overflow(values: torch.Tensor, planned: PlannedTensor) -> None:
    """Refuses numbers that float16 cannot hold.

    Raises:
        ConfigError: naming the tensor.
    """
    if planned.dtype is torch.float16 and not bool(values.isfinite().all()):
        raise ConfigError(
            f"{planned.name} has numbers beyond float16's largest, 65504",
            place="--dtype",
            remedy="take bfloat16 or float32",
        )
