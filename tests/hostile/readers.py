"""The readers of strangers' files as functions of bytes, for fuzzing: only errors for the user may come out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.checkpoint.zoo_index import parse_entries, place_of
from peft_eval.data.messages.reader import read_conversations
from peft_eval.data.superni.reader import read_task, split_list
from peft_eval.errors import PeftEvalError
from peft_eval.merging.tensor_files import stored_tensors
from tests.hostile.corpus.cases import adapter, lora_tensors, safetensors_bytes
from tests.hostile.corpus.data import TASK

Reader = Callable[[bytes, Path], None]


def manifest(content: bytes, folder: Path) -> None:
    """A manifest, and then the checkpoint that it is of."""
    if not (folder / "adapter_config.json").exists():
        adapter(folder)
    (folder / MANIFEST_NAME).write_bytes(content)
    Manifest.read(folder)
    open_checkpoint(str(folder))


def adapter_config(content: bytes, folder: Path) -> None:
    """An adapter's configuration, up to where its base would be looked for."""
    if not (folder / "adapter_config.json").exists():
        adapter(folder)
    (folder / "adapter_config.json").write_bytes(content)
    with mock.patch("peft_eval.checkpoint.trial._problem", return_value=None):  # the process of its own
        opened = open_checkpoint(str(folder))
    assert isinstance(opened.method, str)
    with mock.patch("peft_eval.checkpoint.location._fetch_from_hub", side_effect=PeftEvalError("no network")):
        opened.base_folder()


def superni_task(content: bytes, folder: Path) -> None:
    """A task file, once in part and once as a whole; both ways have to agree on what they can read."""
    path = folder / "task1_x.json"
    path.write_bytes(content)
    for instances in (1, None):
        task, errors = read_task(path, instances=instances)
        assert (task is None) == bool(errors) and all(isinstance(error, PeftEvalError) for error in errors)


def superni_split(content: bytes, folder: Path) -> None:
    """A list of tasks."""
    path = folder / "splits" / "default" / "train_tasks.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert all("/" not in name and name != ".." for name in split_list(folder, "default", "train"))


def conversations(content: bytes, folder: Path) -> None:
    """A file of conversations."""
    path = folder / "x.jsonl"
    path.write_bytes(content)
    read_conversations(str(path))


def zoo_index(content: bytes, folder: Path) -> None:
    """A zoo's index, and the folder of every version in it."""
    for name, entry in parse_entries(content, "index.json").items():
        for version, row in entry["versions"].items():
            place = place_of(folder, name, version, row)
            assert place.folder.resolve().is_relative_to(folder.resolve())


def tensors(content: bytes, folder: Path) -> None:
    """The header of a model's weights."""
    (folder / "model.safetensors").write_bytes(content)
    stored_tensors(folder)


READERS: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (manifest, adapter_config, superni_task, superni_split, conversations, zoo_index, tensors)
}
_MANIFEST = {
    "format_version": 1, "kind": "adapter", "created": "", "base": {"location": "org/base", "revision": "main"},
    "method": {"name": "lora", "options": {"rank": 2}}, "text": {"adds_bos": True, "template": "plain"},
    "data": {"source": "mini", "encoding": "def", "content_sha256": "a", "instances": {"t": ["1"]}, "notes": []},
    "files": {"adapter_config.json": {"bytes": 2, "sha256": "a"}}, "versions": {"peft": "1"},
}  # fmt: skip
_CONFIG = {
    "peft_type": "LORA", "base_model_name_or_path": "org/base", "revision": "main", "r": 2, "lora_alpha": 4.0,
    "target_modules": ["q_proj"], "rank_pattern": {"q": 2}, "auto_mapping": {"parent_library": "transformers.models"},
}  # fmt: skip
_INDEX = {
    "format_version": 1,
    "entries": {
        "lora-4": {
            "versions": {"0123456789ab": {"folder": "lora-4/0123456789ab"}},
            "latest": "0123456789ab",
            "tags": {},
        }
    },
}
_ROW = {"id": "1", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
# What is sound, for each reader: fuzzing changes it.
SOUND: dict[str, bytes] = {
    "manifest": json.dumps(_MANIFEST).encode(),
    "adapter_config": json.dumps(_CONFIG).encode(),
    "superni_task": json.dumps(TASK).encode(),
    "superni_split": b"task1_x\ntask2_y\n",
    "conversations": json.dumps(_ROW).encode() + b"\n",
    "zoo_index": json.dumps(_INDEX).encode(),
    "tensors": safetensors_bytes(dict(list(lora_tensors().items())[:1])),
}


def read(name: str, content: bytes, folder: Path) -> PeftEvalError | None:
    """Gives bytes to a reader; returns the error for the user, None where they are sound. All else comes out."""
    try:
        READERS[name](content, folder)
    except PeftEvalError as error:
        assert str(error).strip()
        return error
    return None
