"""What a case is, and what cases are made of.

A case is made in an empty folder. `door` says which front door it is carried through (see `front_doors`), `names` what
the error has to name. Nothing of it is dangerous to make; what would harm if it were believed leaves a mark beside it.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

Make = Callable[[Path], Any]
DEEP = "[" * 200_000
REDOS = r"(?:[\w.]+[\w.]*)+-nothing"


@dataclass(frozen=True)
class Case:
    """One hostile thing.

    Attributes:
        name: what it is, as an identifier.
        door: `checkpoint`, `base`, `messages`, `superni`, `suite`, `archive` or `command`.
        names: regular expression that the error has to match.
        make: makes it in a folder; what it returns goes to the door, the folder itself if None.
    """

    name: str
    door: str
    names: str
    make: Make


CASES: dict[str, Case] = {}


def case(door: str, names: str, name: str | None = None) -> Callable[[Make], Make]:
    """Registers a case under its function's name."""

    def register(make: Make) -> Make:
        one = Case(name or make.__name__, door, names, make)
        assert one.name not in CASES
        CASES[one.name] = one
        return make

    return register


class Executed:
    """Unpickled, it makes a file beside the case's folder."""

    def __init__(self, folder: Path):
        self.command = f"touch {folder.parent / 'EXECUTED'}"

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


LORA = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "BASE", "r": 2, "lora_alpha": 4,
    "target_modules": ["q_proj"], "bias": "none", "inference_mode": True,
}  # fmt: skip


def lora_tensors() -> dict[str, numpy.ndarray]:
    """The tensors of a LoRA of rank 2 on the tiny base (`tests.tiny.tiny_llama`)."""
    generator = numpy.random.default_rng(0)
    shapes = {"lora_A": (2, 64), "lora_B": (64, 2)}
    return {
        f"base_model.model.model.layers.{layer}.self_attn.q_proj.{part}.weight": generator.normal(
            scale=0.02, size=shape
        ).astype("float32")
        for layer in range(2)
        for part, shape in shapes.items()
    }


def safetensors_bytes(tensors: dict[str, numpy.ndarray]) -> bytes:
    from safetensors.numpy import save

    return save(tensors, metadata={"format": "pt"})


def raw_safetensors(header: dict[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def adapter(folder: Path, tensors: bytes | None = None, **changes: Any) -> Path:
    """Writes a sound LoRA, but for the changes; returns its configuration's path."""
    (folder / "adapter_model.safetensors").write_bytes(tensors or safetensors_bytes(lora_tensors()))
    config = folder / "adapter_config.json"
    config.write_text(json.dumps({**LORA, **changes}), encoding="utf-8")
    return config


def weightless(folder: Path, **changes: Any) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({**LORA, **changes}), encoding="utf-8")


def manifest(folder: Path, **changes: Any) -> None:
    adapter(folder)
    content = {"kind": "adapter", "created": "", "base": {"location": "BASE"}, "method": {"name": "lora"}, **changes}
    (folder / "peft_eval.json").write_text(json.dumps(content), encoding="utf-8")


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def sparse(path: Path, size: int, begin: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(size)


def template(folder: Path, text: str) -> None:
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")


@functools.cache
def large_bomb() -> bytes:
    """Returns 256 MiB of spaces, which gzip makes a thousandth of."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6) as file:
        for _ in range(256):
            file.write(b" " * (1 << 20))
    return buffer.getvalue()
