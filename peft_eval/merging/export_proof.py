"""The proof that a written model folder is base + adapter, from what is on the disk.

The files are read again: their tensors are those that were planned, transformers finds all that the architecture asks
for, what was copied equals the base in samples. Then small models answer the probe prompts as base + adapter does, by
peft's own forward pass; of larger ones, the first and the last layer of each kind do so.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from peft_eval.checkpoint.architecture import model_class, read_config
from peft_eval.errors import ProbeError, first_few
from peft_eval.merging.block_writer import TensorSource
from peft_eval.merging.layers import AdaptedLayer
from peft_eval.merging.merger import AdapterMerger
from peft_eval.merging.reference import (
    MERGE_BOUNDS,
    Distance,
    logits_of,
    quiet_transformers,
    reference_logits,
)
from peft_eval.merging.sources import Copied
from peft_eval.merging.tensor_files import NAMES, PlannedFile, StoredTensor, stored_tensors

# Models up to this size are loaded whole, base and merged one after the other, in float32.
LOADED_PARAMETERS = 250_000_000
# A layer's outputs, relative to the largest: rounding of its weights.
_LAYER_BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 0.02, torch.float16: 0.005}
_SAMPLE_NUMBERS = 512


@dataclass(frozen=True)
class ExportProof:
    """What was read back and compared.

    Attributes:
        tensors: how many tensors the folder has.
        changed: how many of them are not the base's own.
        compared: `logits` of the whole model, or outputs of `layers`; `tensors` where there is no adapter.
        layers: how many layers were compared.
        distance: largest difference to base + adapter, relative to the largest logit or output; None: not compared.
        effect: the same of the base alone to base + adapter; None where layers were compared.
    """

    tensors: int
    changed: int
    compared: str
    layers: int = 0
    distance: float | None = None
    effect: float | None = None

    def __str__(self) -> str:
        what = f"{self.changed} of {self.tensors} tensors changed"
        if self.distance is None:
            return f"{what}, read back and compared"
        if self.compared == "layers":
            return f"{what}; outputs of {self.layers} layers are within {self.distance:.1e} of base + adapter's"
        moved = f", which the adapter moves by {self.effect:.1e}" if self.effect is not None else ""
        return f"{what}; loaded, its logits are within {self.distance:.1e} of base + adapter's{moved}"

    def as_record(self) -> dict[str, Any]:
        """Returns the fields for the manifest."""
        return asdict(self)


def prove_folder(
    folder: Path,
    files: list[PlannedFile],
    sources: dict[str, TensorSource],
    base_folder: Path,
    merger: AdapterMerger | None,
) -> ExportProof:
    """Reads a written folder and compares it with what it should be.

    Args:
        folder: the folder.
        files: what was to be written.
        sources: where each tensor came from.
        base_folder: the base, or the model that was copied.
        merger: the adapter's; None for a copy of a whole model.

    Raises:
        ProbeError: naming what differs.
    """
    _check_headers(folder, files)
    written = stored_tensors(folder)
    copied = {name: source for name, source in sources.items() if isinstance(source, Copied)}
    _compare_copies(copied, written)
    changed = len(sources) - len(copied)
    if merger is None:
        _check_loads(folder, base_folder)
        return ExportProof(len(sources), changed, "tensors")
    parameters = sum(torch.Size(tensor.shape).numel() for tensor in written.values())
    # peft cannot put an adapter with a vocabulary of its own onto the base as it is.
    if parameters <= LOADED_PARAMETERS and "vocab_size" not in merger.config_overrides:
        distance, effect = _compare_logits(folder, merger.adapter_folder, base_folder, _coarsest(files))
        return ExportProof(len(sources), changed, "logits", distance=distance, effect=effect)
    _check_loads(folder, base_folder)
    compared, distance = _compare_layers(merger, written)
    return ExportProof(len(sources), changed, "layers", layers=compared, distance=distance)


def _check_headers(folder: Path, files: list[PlannedFile]) -> None:
    """Opens each file with safetensors' own reader, which checks its header against its size."""
    for file in files:
        try:
            with safe_open(folder / file.name, framework="pt") as opened:
                found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
                there = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in found.items()}
        except (SafetensorError, OSError) as error:
            raise ProbeError(f"the written file cannot be read: {error}", place=file.name) from error
        expected = {tensor.name: (NAMES[tensor.dtype], tuple(tensor.shape)) for tensor in file.tensors}
        if there != expected:
            differing = sorted(name for name in {*there, *expected} if there.get(name) != expected.get(name))
            raise ProbeError(f"other tensors were written than planned: {first_few(differing)}", place=file.name)


def _check_loads(folder: Path, base_folder: Path) -> None:
    """Asks transformers which weights of the architecture it misses, without giving them memory.

    What it misses in the base's own folder too is the base's affair.
    """
    _refuse_problems(_loading_problems(folder), folder, base_folder)


def _refuse_problems(problems: set[str], folder: Path, base_folder: Path) -> None:
    if problems and (ours := problems - _loading_problems(base_folder)):
        raise ProbeError(f"transformers does not load what was written: {first_few(sorted(ours))}", place=str(folder))


def _loading_problems(folder: Path) -> set[str]:
    with quiet_transformers():
        kind = model_class(read_config(folder))
        _, info = kind.from_pretrained(folder, device_map={"": "meta"}, output_loading_info=True)
    return _problems_in(info)


def _problems_in(info: dict[str, Any]) -> set[str]:
    found = {f"{name} is missing" for name in info["missing_keys"]}
    found |= {f"{name} has no place" for name in info["unexpected_keys"]}
    return found | {f"{one[0] if isinstance(one, tuple) else one} has another shape" for one in info["mismatched_keys"]}


def _compare_copies(copied: dict[str, Copied], written: dict[str, StoredTensor]) -> None:
    """Compares the first and last numbers of each copied tensor with the base's."""
    for name, source in copied.items():
        ours, theirs = written[name], source.stored
        count = torch.Size(ours.shape).numel()
        for first in {0, max(0, count - _SAMPLE_NUMBERS)}:
            numbers = min(_SAMPLE_NUMBERS, count - first)
            expected = _numbers(theirs, first, numbers).to(ours.dtype)
            if not torch.equal(_numbers(ours, first, numbers).view(torch.uint8), expected.view(torch.uint8)):
                raise ProbeError(f"{name} is not what the base has", place=str(ours.file))


def _numbers(tensor: StoredTensor, first: int, count: int) -> torch.Tensor:
    size = tensor.dtype.itemsize
    buffer = torch.empty(count * size, dtype=torch.uint8)
    tensor.read_into(buffer, first * size)
    return buffer.view(tensor.dtype)


def _coarsest(files: list[PlannedFile]) -> str:
    """Returns the name of the least exact floating-point dtype among what was written."""
    dtypes = {tensor.dtype for file in files for tensor in file.tensors if tensor.dtype.is_floating_point}
    coarsest = max(dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    return str(coarsest).removeprefix("torch.")


def _compare_logits(folder: Path, adapter_folder: Path, base_folder: Path, dtype: str) -> tuple[float, float]:
    """Returns the distance of the loaded folder to base + adapter, and the base's own."""
    reference = reference_logits(adapter_folder, base_folder, folder, served_dtype=None)
    if reference.effect.largest == 0.0:
        raise ProbeError(
            "the adapter changes nothing: base and adapted model give identical logits",
            place=str(adapter_folder),
            remedy="train it, or use the base itself",
        )
    with quiet_transformers():
        kind = model_class(read_config(folder))
        model, info = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    _refuse_problems(_problems_in(info), folder, base_folder)
    merged = logits_of(model.eval(), reference.prompt_ids)
    distance = Distance.between(merged, reference.unmerged).largest / reference.largest_logit
    bound = MERGE_BOUNDS.get(dtype, max(MERGE_BOUNDS.values()))
    if not distance <= bound:
        raise ProbeError(
            f"merged and unmerged model differ by {distance:.2e} of the largest logit, more than {bound:g} ({dtype})",
            place=str(adapter_folder),
            remedy="take --dtype float32, and report this adapter if that does not help",
        )
    return distance, reference.effect.largest / reference.largest_logit


def _compare_layers(merger: AdapterMerger, written: dict[str, StoredTensor]) -> tuple[int, float]:
    """Returns how many layers were compared, and the largest distance of an output."""
    for name, tensor in merger.replaced.items():
        if name in written and not torch.equal(written[name].read(), tensor.to(written[name].dtype)):
            raise ProbeError(f"{name} is not what the adapter brings", place=str(written[name].file))
    compared, largest = 0, 0.0
    for layer in _sample(merger.layers):
        there = {leaf: written[f"{layer.name}.{leaf}"] for leaf in layer.leaves if f"{layer.name}.{leaf}" in written}
        distance = merger.distance_to_unmerged(layer, partial(_read_all, there))
        if distance is None:
            continue
        bound = max(_LAYER_BOUNDS.get(tensor.dtype, max(_LAYER_BOUNDS.values())) for tensor in there.values())
        if not distance <= bound:
            raise ProbeError(
                f"merged and unmerged outputs differ by {distance:.2e} of the largest, more than {bound:g}",
                place=layer.name,
                remedy="take --dtype float32, and report this adapter if that does not help",
            )
        compared, largest = compared + 1, max(largest, distance)
    return compared, largest


def _read_all(tensors: dict[str, StoredTensor]) -> dict[str, torch.Tensor]:
    return {leaf: tensor.read_float32() for leaf, tensor in tensors.items()}


def _sample(layers: list[AdaptedLayer]) -> list[AdaptedLayer]:
    """Returns the first and the last layer of each kind: the same name but for numbers."""
    kinds: dict[str, list[AdaptedLayer]] = defaultdict(list)
    for layer in layers:
        kinds[re.sub(r"\d+", "N", layer.name)].append(layer)
    picked = [alike[place] for alike in kinds.values() for place in sorted({0, len(alike) - 1})]
    return picked
