"""A file's hash is found while it comes: in pieces, after what was there, and written anew."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from peft_eval.zoo.hashed_fetch import fetched_sha256

CONTENT = os.urandom(3_000_000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def written(path: Path, content: bytes, mode: str) -> None:
    """Writes in pieces, so that who follows finds some of it."""
    with path.open(mode, buffering=0) as file:
        for start in range(0, len(content), 500_000):
            file.write(content[start : start + 500_000])
            time.sleep(0.02)


@pytest.mark.parametrize("had", [0, 1_000_000, 3_000_000])
def test_what_was_there_counts(had: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT[:had])
    found = fetched_sha256(lambda: written(tmp_path / "file", CONTENT[had:], "ab"), tmp_path / "file")
    assert found == sha256(CONTENT)


def test_a_file_that_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(2_000_000))

    def anew() -> None:
        time.sleep(0.1)  # the zeros have been hashed
        written(tmp_path / "file", CONTENT, "wb")

    assert fetched_sha256(anew, tmp_path / "file") == sha256(CONTENT)


def test_an_error_of_the_fetch_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fetched_sha256(lambda: 1 / 0, tmp_path / "file")
