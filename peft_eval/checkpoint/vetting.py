"""Looks through a model or checkpoint folder before anything else reads it: nothing in it is trusted, nothing executed.

What is refused, each with the file and the field: links that lead out of the folder, pipes and devices, files too large
to be what they are called, JSON that is none or says a thing twice, code to be fetched or imported (`auto_map`,
attention kernels of the hub, modules by name), pickled weights, headers of weights that are not whole, sizes that no
file of the folder bears out, and chat templates, tokenizers and patterns that reach out or do not end (see `trial`).
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from peft_eval.checkpoint.hashing import TOKENIZER_FILES
from peft_eval.checkpoint.trial import try_out
from peft_eval.errors import CheckpointError
from peft_eval.plain_files import MOST_JSON_BYTES, UnsafeFileError, read_bounded, shown, strict_json

CONFIGS = ("config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json")
_OTHER_JSON = ("special_tokens_map.json", "added_tokens.json", "processor_config.json", "preprocessor_config.json")
_CONFIG_BYTES = 1 << 24
_TEMPLATE_BYTES = 1 << 20
_SPARSE_BYTES = 1 << 30
_MOST_ENTRIES = 10_000
_INDICES = "*.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")

_MOST_OF_AN_ADAPTER = 1 << 20  # ranks, virtual tokens, dimensions
_MOST_OF_A_MODEL = 1 << 24  # dimensions, positions
_MOST_REPEATED = 4096  # heads, experts, classes: what a model is built of one by one
_FREE_NUMBERS = re.compile(r"seed|prng|key|step|tinit|tfinal|token_id|version|time|theta", re.I)
_LAYERS = re.compile(r"^(num_|n_)?(hidden_|decoder_|encoder_)?(num_)?(layers?|blocks?)$|^depth$", re.I)
_REPEATED = re.compile(r"heads?$|experts?$|^num_(labels|classes|beams)|^n_head|groups?$", re.I)


def vet_folder(folder: Path) -> None:
    """Refuses a folder that holds what no model or checkpoint should.

    Raises:
        CheckpointError: naming the file, and the field where there is one.
    """
    vet_entries(folder)
    vet_contents(folder)


def vet_if_local(reference: str) -> None:
    """Looks through what a model's name stands for where that is a folder; the hub's is left to who fetches it.

    Raises:
        CheckpointError: see `vet_folder`.
    """
    folder = Path(reference).expanduser()
    if folder.is_dir():
        vet_folder(folder)


def vet_contents(folder: Path) -> None:
    """Refuses what the files of a folder hold; its entries have been looked through (`vet_entries`).

    Raises:
        CheckpointError: naming the file, and the field where there is one.
    """
    contents = {name: read_object(folder / name) for name in (*CONFIGS, *_OTHER_JSON) if (folder / name).is_file()}
    tensors = [name for file in sorted(folder.glob("*.safetensors")) for name in tensor_names(file)]
    for index in sorted(folder.glob(_INDICES)):
        _vet_index(index)
    for name, content in contents.items():
        _vet_code(content, folder / name)
    if adapter := contents.get("adapter_config.json"):
        _vet_adapter(adapter, folder / "adapter_config.json")
    for name in ("config.json", "generation_config.json"):
        _vet_sizes(contents.get(name, {}), folder / name, len(tensors))
    try_out(folder, contents, tensors)


def refuse_pickles(folder: Path, weights: list[Path]) -> None:
    """Refuses a folder without safetensors where a loader would look for them, naming what it would take instead.

    Args:
        folder: the folder.
        weights: the files that hold its weights, as far as they are there.

    Raises:
        CheckpointError: there are pickled weights, or none.
    """
    if weights and all(file.is_file() for file in weights):
        return
    if pickled := sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern)):
        raise CheckpointError(
            f"only pickled weights ({shown(pickled[0])}): refused, since loading them can run code",
            place=str(folder),
            remedy="save it with safe_serialization=True",
        )
    raise CheckpointError("there are no weights (*.safetensors)", place=str(folder))


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CheckpointError: the file is missing, too large, not JSON, or not an object.
    """
    try:
        content = strict_json(read_bounded(path), infinity=path.name == "config.json")
    except FileNotFoundError:
        raise CheckpointError("the file is missing", place=str(path)) from None
    except UnsafeFileError as error:
        raise CheckpointError(f"refused: {error}", place=str(path)) from error
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", place=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"not valid JSON: {error}", place=str(path)) from error
    if not isinstance(content, dict):
        raise CheckpointError("not a JSON object", place=str(path))
    return content


def tensor_names(file: Path) -> list[str]:
    """Returns the names of a safetensors file's tensors; the library checks shapes, offsets and size.

    Raises:
        CheckpointError: the file is not whole.
    """
    try:
        with safe_open(file, framework="numpy") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"not a whole safetensors file: {shown(str(error), 200)[1:-1]}",
            place=str(file),
            remedy="fetch or train it again",
        ) from error


def vet_entries(folder: Path) -> None:
    """Refuses links out of the folder, what is no file, and files too large to be what they are called.

    Raises:
        CheckpointError: naming the entry.
    """
    for number, path in enumerate(folder.iterdir()):
        if number >= _MOST_ENTRIES:
            raise CheckpointError(f"it holds more than {_MOST_ENTRIES:,} entries", place=str(folder))
        if path.is_symlink():
            _vet_link(path)
        try:
            status = path.stat()
        except OSError as error:
            raise CheckpointError(
                f"{shown(path.name)} cannot be read: {error.strerror}", place=str(folder), remedy="remove it"
            ) from error
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise CheckpointError(
                f"{shown(path.name)} is a pipe, a socket or a device", place=str(folder), remedy="remove it"
            )
        if status.st_size > _SPARSE_BYTES and getattr(status, "st_blocks", status.st_size) * 512 * 16 < status.st_size:
            raise CheckpointError(
                f"{shown(path.name)} says it has {status.st_size:,} bytes and is almost empty", place=str(folder)
            )
        most = _CONFIG_BYTES if path.name in CONFIGS else MOST_JSON_BYTES
        most = _TEMPLATE_BYTES if path.suffix == ".jinja" else most
        if path.suffix == ".jinja" or path.name in (*CONFIGS, *_OTHER_JSON, *TOKENIZER_FILES):
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError(f"{path.name} is not a file", place=str(folder), remedy="remove it")
            if status.st_size > most:
                raise CheckpointError(
                    f"{shown(path.name)} has {status.st_size:,} bytes, more than the {most:,} that are read",
                    place=str(folder),
                )


def _vet_link(path: Path) -> None:
    """Lets links pass that stay in the folder, and those into the blobs of a hub's cache, which is made of them."""
    folder = path.parent.resolve()
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # a loop: RuntimeError before Python 3.13
        target = Path("/")
    in_cache = target.parent.name == "blobs" and target.parent.parent.name.startswith(("models--", "datasets--"))
    if not target.is_relative_to(folder) and not in_cache:
        raise CheckpointError(
            f"{shown(path.name)} is a link out of the folder", place=str(path.parent), remedy="copy the file itself"
        )


def _vet_index(path: Path) -> None:
    """Checks that an index of weights names files of its own folder."""
    named = read_object(path).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise CheckpointError("field weight_map: not a map from tensors to files", place=str(path))
    for name in dict.fromkeys(str(file) for file in named.values()):
        if not is_plain_name(name) or not name.endswith(".safetensors"):
            raise CheckpointError(
                f"field weight_map names {shown(name)}, which is no *.safetensors file of this folder", place=str(path)
            )
        if not (path.parent / name).is_file():
            raise CheckpointError(f"{name} is missing", place=str(path.parent), remedy="fetch it again")


def is_plain_name(name: str) -> bool:
    """Tells whether a name stands for a file of the folder it is in, and nothing else."""
    return bool(name) and name.isprintable() and not re.search(r"[/\\:]", name) and name not in (".", "..")


def _vet_code(content: dict[str, Any], path: Path) -> None:
    """Refuses what would have a library run code that came with the folder or from the network."""
    for place, key, value in _fields(content):
        if key == "trust_remote_code" and value:
            raise CheckpointError(f"field {place} asks to run code from elsewhere: refused", place=str(path))
        if key in ("_attn_implementation", "attn_implementation", "experts_implementation") and _is_address(value):
            raise CheckpointError(f"field {place} names code on the hub, {shown(value)}: refused", place=str(path))
    if content.get("auto_map") and not _is_known_type(content, path):
        raise CheckpointError(
            "field auto_map asks to run code that comes with it, and transformers has no model or tokenizer of this "
            "type of its own: refused",
            place=str(path),
        )


def _is_address(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else [value]
    return any(isinstance(one, str) and re.search(r"[/:@]", one) for one in values)


def _is_known_type(content: dict[str, Any], path: Path) -> bool:
    """Tells whether transformers brings what a folder's `auto_map` would replace; then the map is not looked at."""
    if path.name == "tokenizer_config.json":
        from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

        return (path.parent / "tokenizer.json").is_file() or (
            tokenizer_class_from_name(str(content.get("tokenizer_class"))) is not None
        )
    if path.name != "config.json":
        return True  # no library looks for a map there
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return str(content.get("model_type")) in CONFIG_MAPPING_NAMES


def _vet_adapter(content: dict[str, Any], path: Path) -> None:
    for place, key, value in _fields(content):
        _refuse_number(value, place, path, _MOST_OF_AN_ADAPTER if not _FREE_NUMBERS.search(key) else 1 << 64)
    if content.get("megatron_core", "megatron.core") not in (None, "megatron.core"):
        raise CheckpointError(f"field megatron_core names a module, {shown(content['megatron_core'])}", place=str(path))
    mapped = content.get("auto_mapping")
    library = mapped.get("parent_library") if isinstance(mapped, dict) else mapped
    if library is not None and not str(library).startswith(("transformers.", "peft.")):
        raise CheckpointError(f"field auto_mapping names a module, {shown(library)}: refused", place=str(path))
    for key in ("peft_type", "base_model_name_or_path", "revision"):
        value = content.get(key)
        if value is not None and not (isinstance(value, str) and value.isprintable()):
            raise CheckpointError(f"field {key}: {shown(value)} is not a name", place=str(path))
    adapters = content.get("adapters")
    for name in adapters.values() if isinstance(adapters, dict) else ():
        raise CheckpointError(f"field adapters names another folder, {shown(name)}: refused", place=str(path))


def _vet_sizes(content: dict[str, Any], path: Path, tensors: int) -> None:
    """Refuses numbers in a model's configuration that its files do not bear out, and that building it would meet."""
    layers = tensors or _MOST_REPEATED
    for place, key, value in _fields(content):
        if _FREE_NUMBERS.search(key):
            most = 1 << 64
        elif _LAYERS.search(key):
            most = layers
        elif _REPEATED.search(key):
            most = _MOST_REPEATED
        else:
            most = _MOST_OF_A_MODEL
        _refuse_number(value, place, path, most)


def _refuse_number(value: Any, place: str, path: Path, most: int) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > most:
        raise CheckpointError(f"field {place}: {shown(value, 24)} is absurd, at most {most:,} here", place=str(path))
    if isinstance(value, float) and value != value:
        raise CheckpointError(f"field {place}: not a number", place=str(path))


def _fields(content: Any) -> Iterator[tuple[str, str, Any]]:
    """Yields every value of nested objects and lists: its place, the last key on the way, and itself."""
    ways = [_inner("", "", content)]
    while ways:
        if (found := next(ways[-1], None)) is None:
            ways.pop()
            continue
        yield shown(found[0], 60)[1:-1], *found[1:]
        ways.append(_inner(*found))


def _inner(place: str, key: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, dict):
        yield from ((f"{place}.{name}".lstrip("."), str(name), inner) for name, inner in value.items())
    elif isinstance(value, list):
        yield from ((f"{place}[{number}]", key, inner) for number, inner in enumerate(value))
