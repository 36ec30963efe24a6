"""Writing checkpoints so that a half-written one is never taken for a whole one.

Files are written into a scratch folder, flushed to the disk, and renamed into place; the manifest
comes last. Whatever happens before that (a kill, a full disk, weights that are not numbers), the
folder says so by having no manifest, and what it held before is untouched.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_eval.checkpoint.hashing import TOKENIZER_FILES, file_sha256
from peft_eval.checkpoint.manifest import MANIFEST_NAME, FileRecord, Manifest
from peft_eval.checkpoint.plain_lora import as_plain_lora
from peft_eval.errors import CheckpointError, DiskFullError, DivergenceError

if TYPE_CHECKING:
    import torch

ADAPTER_WEIGHTS = "adapter_model.safetensors"
TRAINED_WEIGHTS = "trained.safetensors"
CHAT_TEMPLATE = "chat_template.jinja"
# What else a folder's tokenizer may consist of, besides the files its hash covers.
TOKENIZER_COMPANIONS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    CHAT_TEMPLATE,
)
# What a checkpoint of either kind is made of: replaced, or removed, when another takes its place.
CHECKPOINT_PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "adapter_config.json",
    "config.json",
    "generation_config.json",
    CHAT_TEMPLATE,
)


def scratch_of(folder: Path) -> Path:
    """Returns where a folder's files are written before they are whole."""
    return folder.with_name(f".partial-{folder.name}")


@contextlib.contextmanager
def whole_or_nothing(folder: Path) -> Iterator[Path]:
    """Yields an empty scratch folder that becomes `folder` at the end, or vanishes on an error.

    Raises:
        CheckpointError: the disk is full.
    """
    scratch = scratch_of(folder)
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        yield scratch
        flush_to_disk(scratch)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.replace(folder)
        _flush_folder(folder.parent)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if is_disk_full(error, folder):
            raise disk_full(folder) from error
        raise


def publish(scratch: Path, output: Path, manifest: Manifest) -> None:
    """Moves a complete set of files into `output`, then writes the manifest over their hashes.

    Files of an older checkpoint there are removed; others are left alone.
    """
    names = sorted(path.name for path in scratch.iterdir())
    files = {
        name: FileRecord(bytes=(scratch / name).stat().st_size, sha256=file_sha256(scratch / name)) for name in names
    }
    whole = manifest.model_copy(update={"files": files})
    try:
        (output / MANIFEST_NAME).unlink(missing_ok=True)
        for path in checkpoint_files(output):
            path.unlink()
        for name in names:
            (scratch / name).replace(output / name)
        _flush_folder(output)
        whole.write(output)
        _flush_folder(output)
    except OSError as error:
        if is_disk_full(error, output):
            raise disk_full(output) from error
        raise


def checkpoint_files(folder: Path) -> list[Path]:
    """Returns the weights and configurations of whatever checkpoint a folder holds."""
    return sorted({path for pattern in CHECKPOINT_PATTERNS for path in folder.glob(pattern)})


def save_adapter(
    model: Any, folder: Path, *, state_dict: dict[str, torch.Tensor] | None = None, in_training: bool = False
) -> None:
    """Writes a `PeftModel`'s trained weights and configuration as the peft library does.

    An adapter whose start took part of the base away (PiSSA and the like) is written as plain LoRA on the untouched
    base, unless it is to be trained on.

    Args:
        model: the `PeftModel`.
        folder: an existing folder.
        state_dict: the model's weights where they had to be gathered from several processes.
        in_training: write all that is trained, by the model's own names, for `load_adapter_weights`: peft's format
            leaves out what only training needs, as the network behind P-tuning's prompts.

    Raises:
        DivergenceError: a weight is NaN or infinite.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    config = model.peft_config["default"]
    if in_training:
        _save_trained(model, folder, model.state_dict() if state_dict is None else state_dict)
        return
    weights = get_peft_model_state_dict(model, state_dict=state_dict, save_embedding_layers=False)
    check_finite(weights)
    weights, config = as_plain_lora(model, weights)
    save_file(_apart(weights), str(folder / ADAPTER_WEIGHTS), metadata={"format": "pt"})
    training = config.inference_mode
    config.inference_mode = True
    try:
        config.save_pretrained(str(folder))
    finally:
        config.inference_mode = training


def _save_trained(model: Any, folder: Path, weights: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    trained = {name: weights[name] for name, parameter in model.named_parameters() if parameter.requires_grad}
    check_finite(trained)
    save_file(_apart(trained), str(folder / TRAINED_WEIGHTS), metadata={"format": "pt"})


def _apart(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies tensors that share memory, which safetensors does not write, as what layers share in some methods."""
    seen: set[int] = set()
    apart: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        apart[name] = tensor.detach().cpu().contiguous()
        place = apart[name].untyped_storage().data_ptr()
        if place in seen:
            apart[name] = apart[name].clone()
        seen.add(place)
    return apart


def load_adapter_weights(model: Any, folder: Path) -> None:
    """Puts saved weights back into a `PeftModel` of the same configuration.

    Raises:
        CheckpointError: a weight is missing or superfluous.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    if (folder / TRAINED_WEIGHTS).is_file():
        trained = load_file(str(folder / TRAINED_WEIGHTS))
        _refuse_other_names(
            {name for name, weight in model.named_parameters() if weight.requires_grad}, trained, folder
        )
        model.load_state_dict(trained, strict=False)
        return
    weights = load_file(str(folder / ADAPTER_WEIGHTS))
    _refuse_other_names(set(get_peft_model_state_dict(model, save_embedding_layers=False)), weights, folder)
    set_peft_model_state_dict(model, weights)


def _refuse_other_names(expected: set[str], weights: dict[str, torch.Tensor], folder: Path) -> None:
    differing = sorted(expected ^ set(weights))
    if differing:
        raise CheckpointError(
            f"{len(differing)} weights do not fit the model: {', '.join(differing[:5])}", place=str(folder)
        )


def save_full(
    model: Any,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    state_dict: dict[str, torch.Tensor] | None = None,
) -> None:
    """Writes a whole model: safetensors, config, generation config.

    Args:
        model: the model.
        folder: an existing folder.
        dtype: the precision to save in; None keeps the weights' own.
        state_dict: the model's weights where they had to be gathered from several processes.

    Raises:
        DivergenceError: a weight is NaN or infinite.
    """
    from transformers import GenerationConfig

    weights = model.state_dict() if state_dict is None else _untied(model, state_dict)
    check_finite(weights)
    generation, trained_in = model.generation_config, model.config.dtype
    # A base's own generation config may be one that transformers refuses to save; its file is copied instead.
    model.generation_config = GenerationConfig.from_model_config(model.config)
    try:
        model.save_pretrained(str(folder), state_dict=_cast(weights, dtype) if dtype else weights)
        if dtype is not None:  # save_pretrained notes the precision that the model was trained in
            model.config.dtype = dtype
            model.config.save_pretrained(str(folder))
    finally:
        model.generation_config, model.config.dtype = generation, trained_in


def _untied(model: Any, gathered: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Leaves out the second name of tied weights, which are tensors of their own once they are gathered."""
    return {name: tensor for name, tensor in gathered.items() if name not in model.all_tied_weights_keys}


def _cast(weights: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Casts weights; two names of one tensor stay so, which is how transformers knows tied weights."""
    cast: dict[int, torch.Tensor] = {}
    return {
        name: cast.setdefault(tensor.data_ptr(), tensor.to(dtype)) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }


def check_finite(weights: dict[str, torch.Tensor]) -> None:
    """Refuses weights that are NaN or infinite.

    Raises:
        DivergenceError: naming up to five of them.
    """
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        raise DivergenceError(
            f"{len(bad)} trained tensors hold NaN or infinity: {', '.join(bad[:5])}",
            remedy="train again with a lower --learning-rate; nothing was written",
        )


def copy_companions(base: Path, folder: Path, *, full: bool) -> None:
    """Copies a base's tokenizer files byte for byte, and for full weights its generation config."""
    for name in (*TOKENIZER_FILES, *TOKENIZER_COMPANIONS, *(["generation_config.json"] if full else [])):
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


def flush_to_disk(folder: Path) -> None:
    """Makes a folder's files survive a power cut, readable for whom the user's umask lets read."""
    umask = os.umask(0)
    os.umask(umask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~umask)  # safetensors creates files that only their owner can read
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Tells whether an error means "no space left", in whatever words a library says it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
        return True
    # torch.save reports a short write as an error of its zip writer, which names no cause.
    return "PytorchStreamWriter" in str(error) and shutil.disk_usage(_existing(folder)).free < 1 << 20


def disk_full(folder: Path, needed_bytes: int | None = None) -> DiskFullError:
    """Builds the error for a disk without room."""
    free = shutil.disk_usage(_existing(folder)).free
    needed = f", {needed_bytes / 1e6:,.0f} MB needed" if needed_bytes else ""
    return DiskFullError(
        f"no space left on the disk: {free / 1e6:,.0f} MB free{needed}",
        place=str(folder),
        remedy="free some, or choose another --output; a run that had begun continues with --resume",
    )


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
