"""Large files go round the page cache where the system can do that, and as any other where it cannot."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from peft_eval.merging import large_files
from peft_eval.merging.large_files import read_at, write_at


@pytest.mark.parametrize("number", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_what_is_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    flags: list[int] = []

    def watched(name: str) -> Any:
        original = getattr(os, name)

        def call(descriptor: int, buffers: list[Any], position: int, flag: int = 0) -> int:
            flags.append(flag)
            if flag and number:
                raise OSError(number, os.strerror(number))
            return original(descriptor, buffers, position)

        return call

    monkeypatch.setattr(large_files, "LARGE_BYTES", 10)
    monkeypatch.setattr(os, "pwritev", watched("pwritev"))
    monkeypatch.setattr(os, "preadv", watched("preadv"))
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert write_at(descriptor, memoryview(b"0123456789"), 4, large=True) == 10
        assert write_at(descriptor, memoryview(b"abcd"), 0, large=False) == 4
        buffer = bytearray(8)
        assert read_at(descriptor, memoryview(buffer), 2) == 8 and bytes(buffer) == b"cd012345"
        assert read_at(descriptor, memoryview(buffer), 14) == 0
    finally:
        os.close(descriptor)
    assert flags[0] == 0x80 and (0 in flags) == bool(number)


def test_a_full_disk_is_no_reason_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="No space left"):
        write_at(-1, memoryview(b"x"), 0, large=True)
