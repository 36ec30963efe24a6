"""Weights that are pickles, or whose headers lie."""

from __future__ import annotations

import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import numpy

from tests.hostile.corpus.cases import (
    DEEP,
    Executed,
    Make,
    adapter,
    case,
    lora_tensors,
    raw_safetensors,
    safetensors_bytes,
    sparse,
    weightless,
)


def pickled(name: str) -> Make:
    def make(folder: Path) -> None:
        weightless(folder)
        (folder / name).write_bytes(pickle.dumps(Executed(folder)))

    return make


for _name in ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "training_args.bin", "weights.ckpt"):
    case("checkpoint", f"pickled weights.*{_name}.*refused", f"pickle_{_name.replace('.', '_')}")(pickled(_name))


@case("checkpoint", r"adapter_model\.bin.*refused")
def pickle_inside_a_zip(folder: Path) -> None:
    weightless(folder)
    with zipfile.ZipFile(folder / "adapter_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Executed(folder)))


@case("checkpoint", "adapter_model.safetensors.*not a whole safetensors")
def pickle_called_safetensors(folder: Path) -> None:
    adapter(folder, pickle.dumps(Executed(folder)))


@case("checkpoint", r"pytorch_model\.bin.*refused")
def whole_model_pickled(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Executed(folder)))


@case("checkpoint", r"pytorch_model\.bin.*refused")
def pickle_behind_a_decoy(folder: Path) -> None:
    whole_model_pickled(folder)
    (folder / "readme.safetensors").write_bytes(safetensors_bytes({"a": numpy.zeros(1)}))


_F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
_HEADERS: dict[str, bytes] = {
    "of_8_gigabytes": struct.pack("<Q", 8 << 30) + b"{}",
    "of_2_to_the_64": struct.pack("<Q", (1 << 64) - 1) + b"{}",
    "cut_off": safetensors_bytes(lora_tensors())[:-5],
    "too_short": b"\1\2",
    "nested": raw_safetensors(DEEP.encode()),
    "overlapping": raw_safetensors({"a": _F32, "b": _F32}, bytes(4)),
    "hole": raw_safetensors({"a": _F32 | {"data_offsets": [4, 8]}}, bytes(8)),
    "backwards": raw_safetensors({"a": _F32 | {"data_offsets": [4, 0]}}, bytes(4)),
    "offsets_overflow": raw_safetensors({"a": _F32 | {"data_offsets": [0, (1 << 64) - 1]}}, bytes(4)),
    "shape_overflows": raw_safetensors({"a": _F32 | {"shape": [1 << 40, 1 << 40]}}, bytes(4)),
    "shape_absurd": raw_safetensors({"a": _F32 | {"shape": [10**12]}}, bytes(4)),
    "shape_negative": raw_safetensors({"a": _F32 | {"shape": [-1]}}, bytes(4)),
    "dtype_unknown": raw_safetensors({"a": _F32 | {"dtype": "PICKLE"}}, bytes(4)),
    "a_list": raw_safetensors(b"[1, 2]"),
    "not_utf8": raw_safetensors(b"\xff\xfe{}"),
}
for _name, _bytes in _HEADERS.items():
    case("checkpoint", "adapter_model.safetensors: not a whole safetensors file", f"header_{_name}")(
        lambda folder, content=_bytes: adapter(folder, content) and None
    )


@case("checkpoint", "almost empty")
def header_of_a_terabyte_of_nothing(folder: Path) -> None:
    size = 1 << 40
    head = raw_safetensors({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    adapter(folder)
    sparse(folder / "adapter_model.safetensors", size + len(head), head)


@case("base", "two files hold a tensor")
def tensor_in_two_files(base: Path) -> None:
    shutil.copyfile(base / "model.safetensors", base / "model-00001-of-00002.safetensors")
    (base / "model.safetensors").rename(base / "model-00002-of-00002.safetensors")


@case("checkpoint", "NaN or infinity")
def weights_not_a_number(folder: Path) -> None:
    adapter(folder, safetensors_bytes({name: tensor * numpy.nan for name, tensor in lora_tensors().items()}))


@case("checkpoint", "match nothing in the base")
def weights_of_other_names(folder: Path) -> None:
    adapter(folder, safetensors_bytes({**lora_tensors(), "base_model.model.__class__": numpy.zeros(3, "float32")}))


@case("checkpoint", "does not fit this base")
def weights_of_another_shape(folder: Path) -> None:
    adapter(folder, safetensors_bytes({name: tensor[:1] for name, tensor in lora_tensors().items()}))
