"""Writes a checkpoint as a plain model folder, tensor by tensor: base + adapter, merged.

Memory stays at a few blocks plus the adapter (and one tensor where a method merges whole tensors only), whatever the
model's size. The folder appears whole or not at all, after its files were read back and proven.

from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.merging.export import export_merged

export_merged(open_checkpoint("runs/lora"), Path("merged/lora"))
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from peft_eval import __version__
from peft_eval.checkpoint.hashing import file_sha256, remember_sha256, weights_sha256
from peft_eval.checkpoint.manifest import BaseRecord, FileRecord, Manifest, MergeRecord, MethodRecord
from peft_eval.checkpoint.reading import Checkpoint, read_json
from peft_eval.checkpoint.writing import disk_full, flush_to_disk, whole_or_nothing
from peft_eval.errors import BaseMismatchError, CheckpointError, ConfigError
from peft_eval.merging.block_writer import write_files
from peft_eval.merging.companions import changed_config, write_companions
from peft_eval.merging.export_proof import ExportProof, prove_folder
from peft_eval.merging.merger import AdapterMerger
from peft_eval.merging.sources import copies, merged_sources
from peft_eval.merging.tensor_files import plan_files, stored_tensors, write_index

DEFAULT_SHARD_BYTES = 5_000_000_000
_LIBRARIES = ("torch", "transformers", "peft", "safetensors")


@dataclass(frozen=True)
class Export:
    """A folder that was written.

    Attributes:
        folder: the folder.
        files: how many files its weights are in.
        bytes: how large they are together.
        proof: what was read back and compared.
    """

    folder: Path
    files: int
    bytes: int
    proof: ExportProof


def export_merged(
    checkpoint: Checkpoint,
    output: Path,
    *,
    base: str | None = None,
    force_base: bool = False,
    dtype: torch.dtype | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    overwrite: bool = False,
    on_bytes: Callable[[int, int], None] = lambda count, total: None,
) -> Export:
    """Merges an adapter into its base on disk; a whole model is copied, cast and cut into files anew.

    Args:
        checkpoint: the checkpoint.
        output: the folder to make.
        base: where an adapter's base is; None for where the checkpoint says.
        force_base: accept a base with other weights than the checkpoint was trained on.
        dtype: dtype of all floating-point tensors; None keeps each tensor's own.
        shard_bytes: largest size of one file.
        overwrite: replace the folder if there is one; it stays until the new one is proven.
        on_bytes: told how many bytes were written since it was last called, and how many there will be in all.

    Raises:
        ConfigError: the output folder is not empty, is one of those that are read, or another process writes it;
            a number is beyond the dtype.
        RouteError: this adapter has no merged form; the message says why.
        BaseMismatchError: the base is not the one that the checkpoint was trained on.
        CheckpointError: the checkpoint or the base is damaged; the disk is full.
        ProbeError: what was written is not what it should be; the folder is not made.
    """
    source_folder = _source_folder(checkpoint, base, force_base)
    _check_output(output, [checkpoint.folder, source_folder], overwrite)
    with _alone_in(output):
        changed_config(read_json(source_folder / "config.json"), {}, dtype)  # refuses before the long work
        merger = AdapterMerger(checkpoint.folder, source_folder, dtype=dtype) if checkpoint.kind == "adapter" else None
        stored = stored_tensors(source_folder)
        sources = merged_sources(merger, stored, dtype) if merger else copies(stored, dtype)
        files = plan_files((source.planned for source in sources.values()), shard_bytes)
        total = sum(source.planned.bytes for source in sources.values())
        if shutil.disk_usage(output.parent).free < total:
            raise disk_full(output, total)
        with _in_place_of(output) as folder:
            hashes = write_files(folder, files, sources, lambda count: on_bytes(count, total))
            write_index(folder, files)
            overrides = merger.config_overrides if merger else {}
            write_companions(checkpoint, source_folder, folder, overrides=overrides, dtype=dtype)
            proof = prove_folder(folder, files, sources, source_folder, merger)
            if manifest := _manifest(checkpoint, base, source_folder, dtype, proof):
                manifest.model_copy(update={"files": _file_records(folder, hashes)}).write(folder)
        for name, digest in hashes.items():
            remember_sha256(output / name, digest)
        return Export(output, len(files), total, proof)


def _source_folder(checkpoint: Checkpoint, base: str | None, force_base: bool) -> Path:
    """Returns the folder whose weights are read."""
    if checkpoint.kind == "adapter":
        try:
            return checkpoint.base_folder(base, force=force_base)
        except BaseMismatchError as error:
            remedy = "pass the right --base, or --force-base to insist"
            raise BaseMismatchError(error.problem, place=error.place, remedy=remedy) from error
        except CheckpointError as error:
            raise CheckpointError(error.problem, place=error.place, remedy="pass --base BASE") from error
    if base is not None:
        remedy = "leave --base out: nothing is merged"
        raise ConfigError("a base given beside full weights", place=checkpoint.reference, remedy=remedy)
    return checkpoint.folder


def _check_output(output: Path, read: list[Path], overwrite: bool) -> None:
    """Refuses an output that holds something, or that is or holds a folder that is read."""
    for folder in {one.resolve() for one in read}:
        place = output.resolve()
        if place == folder or place in folder.parents:
            raise ConfigError(f"the folder is read from: {folder}", place=str(output), remedy="name another --output")
    if output.is_file():
        raise ConfigError("a file is there", place=str(output), remedy="name another --output")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise ConfigError("the folder is not empty", place=str(output), remedy="name another --output, or --overwrite")
    output.parent.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _alone_in(output: Path) -> Iterator[None]:
    """Keeps another merge out of the same output; the system frees the lock of a killed one."""
    path = output.with_name(f".{output.name}.lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            "another merge is writing there", place=str(output), remedy="wait for it, or name another --output"
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def _in_place_of(output: Path) -> Iterator[Path]:
    """Yields a scratch folder that becomes `output`; what is there is set aside by renaming, and removed at the end."""
    aside = output.with_name(f".replaced-{output.name}")
    if aside.exists() and not output.exists():
        aside.replace(output)  # a merge was killed between the two renames
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with whole_or_nothing(output) as folder:
            yield folder
            flush_to_disk(folder)
            if output.exists():
                output.replace(aside)
    except BaseException:
        if aside.exists() and not output.exists():
            aside.replace(output)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _file_records(folder: Path, hashes: dict[str, str]) -> dict[str, FileRecord]:
    return {
        path.name: FileRecord(bytes=path.stat().st_size, sha256=hashes.get(path.name) or file_sha256(path))
        for path in sorted(folder.iterdir())
    }


def _manifest(
    checkpoint: Checkpoint, base: str | None, source_folder: Path, dtype: torch.dtype | None, proof: ExportProof
) -> Manifest | None:
    """Returns the checkpoint's own manifest as that of a whole model; None for a whole model that has none."""
    told = checkpoint.manifest
    if checkpoint.kind == "full" and told is None:
        return None
    if told is None:
        revision = None if base else checkpoint.adapter_config.get("revision")
        record = BaseRecord(location=base or checkpoint.base_reference(), revision=revision)
        told = Manifest(kind="full", created="", base=record, method=MethodRecord(name=checkpoint.method))
    elif base and checkpoint.kind == "adapter":
        record = told.base.model_copy(
            update={"location": base, "revision": None, "weights_sha256": weights_sha256(source_folder)}
        )
        told = told.model_copy(update={"base": record})
    return told.model_copy(
        update={
            "kind": "full",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"peft_eval": __version__, **{name: version(name) for name in _LIBRARIES}},
            "merged": MergeRecord(
                checkpoint=checkpoint.reference,
                checkpoint_sha256=checkpoint.sha256,
                dtype=str(dtype).removeprefix("torch.") if dtype else "auto",
                proof=proof.as_record(),
            ),
        }
    )
