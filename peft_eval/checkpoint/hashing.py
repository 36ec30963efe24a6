"""Hashes of files, base weights and tokenizers.

Hashing a large base takes seconds, so a file's hash is kept in the user's cache under its path,
size and modification time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_cache_path

_BLOCK_BYTES = 1 << 22
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "spiece.model")


def file_sha256(path: Path) -> str:
    """Returns the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _cached_sha256(path: Path) -> str:
    entry = _cache_entry(path)
    try:
        return str(json.loads(entry.read_text()))
    except (OSError, ValueError):
        digest = file_sha256(path)
    remember_sha256(path, digest)
    return digest


def remember_sha256(path: Path, digest: str) -> None:
    """Keeps the hash of a file for the next time that it is asked for, while the file stays as it is."""
    entry = _cache_entry(path)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        temporary = entry.with_name(f"{entry.name}.{os.getpid()}")
        temporary.write_text(json.dumps(digest))
        temporary.replace(entry)
    except OSError:
        pass  # a read-only or full cache costs time, not correctness


def _cache_entry(path: Path) -> Path:
    real = path.resolve()
    status = real.stat()
    key = hashlib.sha256(f"{real}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}".encode()).hexdigest()
    return user_cache_path("peft_eval") / "hashes" / key


def joint_sha256(digests: Iterable[str]) -> str:
    """Returns one hash over many, whatever their order."""
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def weights_sha256(folder: Path) -> str | None:
    """Returns the hash over the `*.safetensors` files of a model folder, None if there is none."""
    files = sorted(folder.glob("*.safetensors"))
    return joint_sha256(_cached_sha256(file) for file in files) if files else None


def tokenizer_sha256(folder: Path) -> str | None:
    """Returns the hash over a folder's tokenizer files, None if there is none."""
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return joint_sha256(file_sha256(file) for file in files) if files else None
