"""Opening a checkpoint: what it is, whether it is whole, and which base it belongs to.

Reads any peft-format adapter or full model folder; one of ours also has the manifest, whose hashes
are then checked. Nothing in a checkpoint is executed: safetensors and JSON are all that is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from peft_eval.checkpoint.hashing import file_sha256, joint_sha256, tokenizer_sha256, weights_sha256
from peft_eval.checkpoint.location import resolve_folder
from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest
from peft_eval.errors import BaseMismatchError, CheckpointError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
UNFINISHED_FOLDER = ".training"


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        reference: as the user wrote it.
        folder: where its files are.
        kind: `adapter` or `full`.
        manifest: None for a checkpoint made elsewhere.
    """

    reference: str
    folder: Path
    kind: Literal["adapter", "full"]
    manifest: Manifest | None

    @cached_property
    def adapter_config(self) -> dict[str, Any]:
        """The adapter's peft configuration; empty for full weights."""
        return read_json(self.folder / ADAPTER_CONFIG) if self.kind == "adapter" else {}

    @cached_property
    def sha256(self) -> str:
        """Hash over the weights and, for an adapter, its configuration."""
        weights = weights_sha256(self.folder)
        assert weights is not None  # opened only if there are weights
        if self.kind == "full":
            return weights
        return joint_sha256([weights, file_sha256(self.folder / ADAPTER_CONFIG)])

    @property
    def method(self) -> str:
        """The method's name: the manifest's, else peft's type, else `full`."""
        if self.manifest:
            return self.manifest.method.name
        return str(self.adapter_config.get("peft_type", "full")).lower()

    @property
    def has_tokenizer(self) -> bool:
        """Whether the folder carries its own tokenizer."""
        return tokenizer_sha256(self.folder) is not None

    def base_reference(self) -> str:
        """Returns the base model's location as the checkpoint names it.

        Raises:
            CheckpointError: an adapter that does not say its base.
        """
        if self.manifest:
            return self.manifest.base.location
        named = self.adapter_config.get("base_model_name_or_path")
        if not named:
            raise CheckpointError(
                "the adapter does not name its base", place=str(self.folder), remedy="pass pretrained=BASE"
            )
        return str(named)

    def base_folder(self, override: str | None = None, *, force: bool = False) -> Path:
        """Returns the base model's folder, checked against the manifest's hash.

        Args:
            override: another place to take the base from (`pretrained=`).
            force: accept a base whose weights differ (`force_base=true`).

        Raises:
            BaseMismatchError: the weights there are not those the adapter was trained on.
            CheckpointError: there is no base there.
        """
        reference = override or self.base_reference()
        revision = self.manifest.base.revision if self.manifest else self.adapter_config.get("revision")
        try:
            folder = resolve_folder(reference, revision=revision)
        except CheckpointError as error:
            raise CheckpointError(
                f"its base is not there: {reference}", place=str(self.folder), remedy="pass pretrained=BASE"
            ) from error
        expected = self.manifest.base.weights_sha256 if self.manifest else None
        found = weights_sha256(folder) if expected and not force else None
        if found != expected and not force:
            raise BaseMismatchError(
                f"base {reference} has weights {str(found)[:12]}, the adapter was trained on {str(expected)[:12]}",
                place=str(self.folder),
                remedy="pass the right pretrained=, or force_base=true to insist",
            )
        return folder


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CheckpointError: the file is missing, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError("the file is missing", place=str(path)) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"not valid JSON: {error}", place=str(path)) from error
    if not isinstance(content, dict):
        raise CheckpointError("not a JSON object", place=str(path))
    return content


def open_checkpoint(reference: str) -> Checkpoint:
    """Opens a checkpoint and checks that it is whole.

    Args:
        reference: a folder, `zoo:NAME` or a hub id.

    Raises:
        CheckpointError: it is missing, unfinished, truncated, changed since it was written, or
            holds pickled weights only.
    """
    folder = resolve_folder(reference)
    manifest = Manifest.read(folder) if (folder / MANIFEST_NAME).is_file() else None
    if manifest is None and (folder / UNFINISHED_FOLDER).is_dir():
        raise CheckpointError(
            "training has not finished here", place=str(folder), remedy="run peft-eval train again with --resume"
        )
    if manifest:
        _check_files(folder, manifest)
    if (folder / ADAPTER_CONFIG).is_file():
        _check_safetensors(folder, [folder / ADAPTER_WEIGHTS])
        return Checkpoint(reference, folder, "adapter", manifest)
    if (folder / "config.json").is_file():
        _check_safetensors(folder, sorted(folder.glob("*.safetensors")))
        return Checkpoint(reference, folder, "full", manifest)
    raise CheckpointError(
        f"neither {ADAPTER_CONFIG} nor config.json is there", place=str(folder), remedy="name a checkpoint folder"
    )


def _check_files(folder: Path, manifest: Manifest) -> None:
    for name, record in manifest.files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(f"the manifest names a file outside: {name}", place=str(folder))
        if not path.is_file():
            raise CheckpointError(f"{name} is missing", place=str(folder), remedy="fetch or train it again")
        if path.stat().st_size != record.bytes:
            raise CheckpointError(
                f"{name} has {path.stat().st_size:,} bytes, the manifest says {record.bytes:,}",
                place=str(folder),
                remedy="fetch or train it again",
            )
        if name.startswith("adapter") and file_sha256(path) != record.sha256:
            raise CheckpointError(
                f"{name} was changed since the manifest was written",
                place=str(folder),
                remedy="fetch or train it again",
            )


def _check_safetensors(folder: Path, files: list[Path]) -> None:
    if not files or not all(file.is_file() for file in files):
        pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
        if pickled:
            raise CheckpointError(
                f"only pickled weights ({pickled[0]}): refused, since loading them can run code",
                place=str(folder),
                remedy="save it with safe_serialization=True",
            )
        raise CheckpointError("there are no weights (*.safetensors)", place=str(folder))
    for file in files:
        try:
            with safe_open(file, framework="numpy") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"not a whole safetensors file: {error}", place=str(file), remedy="fetch or train it again"
            ) from error
