"""Keeps an adapter's configuration from filling the memory before its tensors are compared with what it says.

peft allocates what a configuration asks for (a rank of 10**9, say) and finds out later that the file holds something
else. Here every tensor is counted before it is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from peft_eval.errors import CheckpointError

_ROOM_BYTES = 1 << 28
_TIMES = 16  # what is computed on the way: other precisions, products, decompositions
_FROM_NUMBERS = (
    "empty", "zeros", "ones", "full", "rand", "randn", "randint", "randperm", "arange", "eye", "empty_strided",
)  # fmt: skip


class MemoryLimit(TorchDispatchMode):
    """Refuses tensors that together would hold much more than the adapter's file and what is adapted.

    Args:
        adapter: the adapter's weights, for their size and for the message.
        elements: how many numbers the base's largest tensor has, or all of them where peft computes with all.
    """

    def __init__(self, adapter: Path, elements: int):
        super().__init__()
        self._place = adapter.parent
        self._most = _ROOM_BYTES + _TIMES * max(adapter.stat().st_size, 4 * elements)
        self._held: list[tuple[StorageWeakRef, int]] = []
        self._bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        """Counts what an operation makes, before it is made where it is made of numbers alone."""
        options = kwargs or {}
        if func.overloadpacket.__name__ in _FROM_NUMBERS and str(options.get("device", "cpu")) != "meta":
            self._refuse_over(4 * math.prod(_numbers(args)), exactly=False)
        made = func(*args, **options)
        if isinstance(made, torch.Tensor) and made.device.type != "meta":
            self._count(made)
        return made

    def _count(self, made: torch.Tensor) -> None:
        storage = made.untyped_storage()
        size = storage.nbytes()
        if size < 1 << 16:
            return
        self._held.append((StorageWeakRef(storage), size))
        self._bytes += size
        if self._bytes > self._most:
            self._held = list({one.cdata: (one, held) for one, held in self._held if not one.expired()}.values())
            self._bytes = sum(held for _, held in self._held)
            self._refuse_over(0, exactly=True)

    def _refuse_over(self, more: int, *, exactly: bool) -> None:
        if (self._bytes if exactly else 0) + more > self._most:
            raise CheckpointError(
                f"adapter_config.json asks for more than {self._most:,} bytes of memory, which neither its weights nor "
                "the base bear out: a rank, size or number in it is absurd",
                place=str(self._place),
            )


def _numbers(args: Sequence[Any]) -> list[int]:
    sizes = args[0] if args and isinstance(args[0], (list, tuple)) else args[:2]
    return [max(int(size), 1) for size in sizes if isinstance(size, (int, float))]
