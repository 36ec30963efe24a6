"""Opening a checkpoint: what it is, whether it is whole, and which base it belongs to.

Reads any peft-format adapter or full model folder; one of ours also has the manifest, whose hashes
are then checked. Nothing in a checkpoint is executed: safetensors and JSON are all that is read, and a folder that
holds what it should not is refused first (`peft_eval.checkpoint.vetting`), its base's folder too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from peft_eval.checkpoint.hashing import file_sha256, joint_sha256, tokenizer_sha256, weights_sha256
from peft_eval.checkpoint.location import resolve_folder
from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest
from peft_eval.checkpoint.vetting import (
    is_plain_name,
    read_object,
    refuse_pickles,
    vet_contents,
    vet_entries,
    vet_folder,
)
from peft_eval.errors import BaseMismatchError, CheckpointError
from peft_eval.plain_files import shown

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
UNFINISHED_FOLDER = ".training"
_REVISION = re.compile(r"(?!.*\.\.)[\w./-]+")


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
        named = self.manifest.base.revision if self.manifest else self.adapter_config.get("revision")
        revision = None if override else named
        if not override and ("://" in reference or not reference.isprintable()):
            raise CheckpointError(f"{shown(reference)} is no base to look for", place=str(self.folder))
        if revision is not None and not _REVISION.fullmatch(revision):
            raise CheckpointError(f"{shown(revision)} is no revision of a base", place=str(self.folder))
        try:
            folder = resolve_folder(reference, revision=revision)
        except CheckpointError as error:
            raise CheckpointError(
                f"its base is not there: {reference}", place=str(self.folder), remedy="pass pretrained=BASE"
            ) from error
        vet_folder(folder)
        expected = self.manifest.base.weights_sha256 if self.manifest else None
        found = weights_sha256(folder) if expected and not force else None
        if found != expected and not force:
            raise BaseMismatchError(
                f"base {reference} has weights {str(found)[:12]}, the adapter was trained on {str(expected)[:12]}",
                place=str(self.folder),
                remedy="pass the right pretrained=, or force_base=true to insist",
            )
        return folder


read_json = read_object


def open_checkpoint(reference: str) -> Checkpoint:
    """Opens a checkpoint and checks that it is whole.

    Args:
        reference: a folder, `zoo:NAME` or a hub id.

    Raises:
        CheckpointError: it is missing, unfinished, truncated, changed since it was written, holds pickled weights
            only, or what is refused (see `peft_eval.checkpoint.vetting`).
    """
    folder = resolve_folder(reference)
    vet_entries(folder)
    manifest = Manifest.read(folder) if (folder / MANIFEST_NAME).is_file() else None
    if manifest is None and (folder / UNFINISHED_FOLDER).is_dir():
        raise CheckpointError(
            "training has not finished here", place=str(folder), remedy="run peft-eval train again with --resume"
        )
    if manifest:
        _check_sizes(folder, manifest)
    vet_contents(folder)
    if manifest:
        _check_hashes(folder, manifest)
    if (folder / ADAPTER_CONFIG).is_file():
        refuse_pickles(folder, [folder / ADAPTER_WEIGHTS])
        return Checkpoint(reference, folder, "adapter", manifest)
    if (folder / "config.json").is_file():
        refuse_pickles(folder, weights_of_model(folder))
        return Checkpoint(reference, folder, "full", manifest)
    raise CheckpointError(
        f"neither {ADAPTER_CONFIG} nor config.json is there", place=str(folder), remedy="name a checkpoint folder"
    )


def weights_of_model(folder: Path) -> list[Path]:
    """Returns the safetensors files that hold a model's weights; the index, if there is one, was looked through."""
    named = [folder / "model.safetensors", folder / "model.safetensors.index.json"]
    found = sorted(folder.glob("*.safetensors"))
    has_pickles = any(folder.glob("pytorch_model*.bin"))
    # Under other names transformers would not find them, and take pickled weights in their stead.
    return [] if has_pickles and not any(path.is_file() for path in named) else found


def _check_sizes(folder: Path, manifest: Manifest) -> None:
    for name, record in manifest.files.items():
        if not is_plain_name(name):
            raise CheckpointError(f"the manifest names a file outside: {shown(name)}", place=str(folder))
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{name} is missing", place=str(folder), remedy="fetch or train it again")
        if path.stat().st_size != record.bytes:
            raise CheckpointError(
                f"{name} has {path.stat().st_size:,} bytes, the manifest says {record.bytes:,}",
                place=str(folder),
                remedy="fetch or train it again",
            )


def _check_hashes(folder: Path, manifest: Manifest) -> None:
    for name, record in manifest.files.items():
        # Weights of whole models take long to hash; all else is hashed each time.
        small = name.startswith("adapter") or not name.endswith(".safetensors")
        if small and file_sha256(folder / name) != record.sha256:
            raise CheckpointError(
                f"{name} was changed since the manifest was written",
                place=str(folder),
                remedy="fetch or train it again",
            )
