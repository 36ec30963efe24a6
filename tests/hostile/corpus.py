"""Hostile checkpoints, bases, data files and archives, each made by a function, with the words of its refusal.

A case is made in an empty folder. `door` says which front door it is carried through (see `front_doors`), `names` what
the error has to name. Nothing of it is dangerous to make; what would harm if it were believed leaves a mark beside it.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import pickle
import shutil
import socket
import struct
import tarfile
import zipfile
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


# -- building blocks -------------------------------------------------------------------------------------------------

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


# -- pickles ---------------------------------------------------------------------------------------------------------


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


# -- code ------------------------------------------------------------------------------------------------------------


@case("base", "config.json: field auto_map")
def auto_map_of_an_unknown_type(base: Path) -> None:
    (base / "evil.py").write_text(f"import os; os.system('touch {base.parent / 'EXECUTED'}')")
    change_json(base / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})


@case("base", "tokenizer_config.json: field auto_map")
def auto_map_of_a_tokenizer(base: Path) -> None:
    (base / "evil.py").write_text(f"import os; os.system('touch {base.parent / 'EXECUTED'}')")
    (base / "tokenizer.json").unlink()
    (base / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.T", None]}})
    )


@case("base", "config.json: field attn_implementation names code")
def attention_from_the_hub(base: Path) -> None:
    change_json(base / "config.json", attn_implementation="evil/kernel@main:run")


@case("checkpoint", "tokenizer_kwargs.trust_remote_code")
def remote_code_for_a_prompt(folder: Path) -> None:
    adapter(folder, tokenizer_kwargs={"trust_remote_code": True}, tokenizer_name_or_path="evil/tokenizer")


@case("checkpoint", "field auto_mapping names a module, 'os'")
def module_by_name(folder: Path) -> None:
    adapter(folder, auto_mapping={"parent_library": "os", "base_model_class": "system"})


@case("checkpoint", "field megatron_core names a module")
def megatron_module(folder: Path) -> None:
    adapter(folder, megatron_config={"a": 1}, megatron_core="antigravity")


@case("checkpoint", "field adapters names another folder, '/etc'")
def adapters_elsewhere(folder: Path) -> None:
    adapter(folder, peft_type="XLORA", adapters={"0": "/etc"})


for _number, _type in enumerate(("EVIL", "", "__class__", "lora\x1b[2J", ["LORA"], {"a": 1}, 7)):
    case("checkpoint", "adapter_config.json", f"method_type_{_number}")(
        lambda folder, kind=_type: adapter(folder, peft_type=kind) and None
    )

# -- paths and addresses ---------------------------------------------------------------------------------------------


def index(folder: Path, content: Any) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


for _number, _file in enumerate(
    ("../secret.safetensors", "/etc/passwd", "pytorch_model.bin", "a\0.safetensors", "C:x")
):
    case("base", r"index\.json: field weight_map names", f"index_leads_out_{_number}")(
        lambda base, name=_file: index(base, {"weight_map": {"lm_head.weight": name}})
    )
for _number, _content in enumerate(({"weight_map": []}, {"weight_map": "x"}, {}, [], {"weight_map": {}})):
    case("base", r"index\.json", f"index_of_a_wrong_form_{_number}")(
        lambda base, content=_content: index(base, content)
    )


@case("base", "missing.safetensors is missing")
def index_of_a_missing_file(base: Path) -> None:
    index(base, {"weight_map": {"lm_head.weight": "missing.safetensors"}})


_ADDRESSES = ("http://127.0.0.1:9/x", "file:///etc/passwd", "s3://bucket/x", "ssh://host/x", "a\nb", "\x1b]0;x\x07")
for _number, _address in enumerate(_ADDRESSES):
    case("checkpoint", "no base to look for|base_model_name_or_path", f"base_is_an_address_{_number}")(
        lambda folder, address=_address: adapter(folder, base_model_name_or_path=address) and None
    )
    case("checkpoint", "no base to look for", f"manifest_base_is_an_address_{_number}")(
        lambda folder, address=_address: manifest(folder, base={"location": address})
    )


@case("checkpoint", r"revision: \['x'\]|no revision")
def revision_is_a_list(folder: Path) -> None:
    adapter(folder, base_model_name_or_path="org/name", revision=["x"])


@case("checkpoint", "no revision")
def revision_leads_out(folder: Path) -> None:
    adapter(folder, base_model_name_or_path="org/name", revision="../../../etc/passwd")


for _number, _file in enumerate(("../x", "/etc/passwd", "a\0b", "", ".", "a/../../b", "x\x1b[2J", "\ud800")):
    case("checkpoint", "manifest names a file outside|peft_eval.json", f"manifest_leads_out_{_number}")(
        lambda folder, name=_file: manifest(folder, files={name: {"bytes": 1, "sha256": ""}})
    )

# -- what is no file -------------------------------------------------------------------------------------------------


@case("checkpoint", "adapter_model.safetensors' is a link out of the folder")
def link_to_a_file(folder: Path) -> None:
    adapter(folder)
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.safetensors").symlink_to("/etc/passwd")


@case("checkpoint", "chat_template.jinja' is a link out of the folder")
def link_to_a_secret(folder: Path) -> None:
    adapter(folder)
    (folder / "chat_template.jinja").symlink_to(folder.parent / "secret")


@case("checkpoint", "additional_chat_templates' is a link out of the folder")
def link_to_a_folder(folder: Path) -> None:
    adapter(folder)
    (folder / "additional_chat_templates").symlink_to("/")


@case("checkpoint", "tokenizer.json' is a link out of the folder")
def link_in_a_loop(folder: Path) -> None:
    adapter(folder)
    (folder / "tokenizer.json").symlink_to("tokenizer.json")


@case("checkpoint", "tokenizer.json' (is a link|cannot be read)")
def link_to_nothing(folder: Path) -> None:
    adapter(folder)
    (folder / "tokenizer.json").symlink_to("nothing-here")


@case("checkpoint", "tokenizer.json' is a (link|pipe)")
def link_to_a_device(folder: Path) -> None:
    adapter(folder)
    (folder / "tokenizer.json").symlink_to("/dev/zero")


for _name in ("adapter_config.json", "adapter_model.safetensors", "peft_eval.json", "tokenizer.json", "config.json"):

    def _pipe(folder: Path, name: str = _name) -> None:
        adapter(folder)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    case("checkpoint", f"{_name}' is a pipe", f"pipe_{_name.replace('.', '_')}")(_pipe)


@case("checkpoint", "peft_eval.json' is a pipe, a socket")
def a_socket(folder: Path) -> None:
    adapter(folder)
    here = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("peft_eval.json")
    os.chdir(here)


@case("checkpoint", "adapter_config.json is not a file")
def folder_for_a_file(folder: Path) -> None:
    adapter(folder).unlink()
    (folder / "adapter_config.json").mkdir()


# -- weights' headers ------------------------------------------------------------------------------------------------

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


# -- JSON ------------------------------------------------------------------------------------------------------------

_TEXTS: dict[str, bytes] = {
    "deep": b'{"r": ' + DEEP.encode(),
    "huge_number": b'{"r": ' + b"9" * 10_000 + b"}",
    "key_twice": b'{"r": 2, "r": 3}',
    "nan": b'{"lora_alpha": NaN}',
    "infinity": b'{"lora_alpha": Infinity}',
    "utf16": json.dumps(LORA).encode("utf-16"),
    "latin1": '{"é": 1}'.encode("latin-1"),
    "byte_order_mark": b"\xef\xbb\xbf{}",
    "a_list": b"[]",
    "empty": b"",
    "zeros": bytes(1000),
    "crowd": b'{"a": [' + b"[]," * 4_000_000 + b"[]]}",
    "comments": b'{"r": 2 /* really */}',
}
for _name, _bytes in _TEXTS.items():
    for _file in ("adapter_config.json", "peft_eval.json"):

        def _write(folder: Path, name: str = _file, content: bytes = _bytes) -> None:
            adapter(folder)
            (folder / name).write_bytes(content)

        case("checkpoint", _file, f"json_{_name}_{_file.partition('.')[0]}")(_write)

_FIELDS: dict[str, Any] = {
    "kind": "magic", "created": 7, "base": [], "method": None, "files": [], "versions": {"a": 1}, "training": {},
    "data": {"source": 1}, "unknown_field": 1, "format_version": 99, "text": {"adds_bos": "maybe"},
}  # fmt: skip
for _name, _value in _FIELDS.items():
    case("checkpoint", r"peft_eval\.json: (field|manifest format)", f"manifest_field_{_name}")(
        lambda folder, name=_name, value=_value: manifest(folder, **{name: value})
    )


@case("checkpoint", "chat_template.jinja was changed")
def template_changed_afterwards(folder: Path) -> None:
    manifest(folder, files={"chat_template.jinja": {"bytes": 2, "sha256": "0" * 64}})
    template(folder, "hi")


@case("checkpoint", "adapter_config.json' has 1,073,741,824 bytes")
def configuration_of_a_gigabyte(folder: Path) -> None:
    sparse(adapter(folder), 1 << 30)


@case("checkpoint", "peft_eval.json.*bytes")
def manifest_of_a_gigabyte(folder: Path) -> None:
    adapter(folder)
    sparse(folder / "peft_eval.json", 1 << 30)


@case("checkpoint", "10,000 entries")
def crowded_folder(folder: Path) -> None:
    adapter(folder)
    for number in range(10_001):
        (folder / f"{number}.txt").touch()


# -- numbers ---------------------------------------------------------------------------------------------------------

_ABSURD: dict[str, dict[str, Any]] = {
    "rank": {"r": 10**9},
    "rank_that_passes_for_one": {"r": 10**6},
    "rank_negative": {"r": -1},
    "rank_a_text": {"r": "2"},
    "rank_of_a_pattern": {"rank_pattern": {"q_proj": 10**9}},
    "rank_of_a_pattern_smaller": {"rank_pattern": {"q_proj": 10**6}},
    "virtual_tokens": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10**9},
    "virtual_tokens_smaller": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10**6},
    "prefix": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 10**6, "num_layers": 10**5, "token_dim": 64},
    "p_tuning": {"peft_type": "P_TUNING", "num_virtual_tokens": 4, "encoder_hidden_size": 10**6, "token_dim": 64},
    "vector_bank": {"peft_type": "VBLORA", "num_vectors": 10**6, "vector_length": 10**6, "topk": 2},
    "frequencies": {"peft_type": "FOURIERFT", "n_frequency": 10**9},
    "vera_rank": {"peft_type": "VERA", "r": 10**6},
    "lokr_rank": {"peft_type": "LOKR", "r": 10**6},
    "loha_rank": {"peft_type": "LOHA", "r": 10**6},
    "random_bases": {"peft_type": "RANDLORA", "r": 10**6},
    "boft_blocks": {"peft_type": "BOFT", "boft_block_size": 10**6},
    "layers": {"layers_to_transform": [10**9]},
}
for _name, _changes in _ABSURD.items():
    case("checkpoint", "adapter|no merged form", f"absurd_{_name}")(
        lambda folder, changes=_changes: adapter(folder, **changes) and None
    )

_ABSURD_MODELS: dict[str, dict[str, Any]] = {
    "num_hidden_layers": {"num_hidden_layers": 10**9},
    "num_hidden_layers_smaller": {"num_hidden_layers": 3000},
    "vocab_size": {"vocab_size": 10**12},
    "hidden_size": {"hidden_size": 10**15},
    "num_experts": {"num_experts": 10**9},
    "num_attention_heads": {"num_attention_heads": 10**9},
    "num_labels": {"num_labels": 10**8},
    "max_position_embeddings": {"max_position_embeddings": 10**12},
    "text_config": {"text_config": {"num_hidden_layers": 10**9}},
}
for _name, _changes in _ABSURD_MODELS.items():
    case("base", r"config\.json: field", f"model_{_name}")(
        lambda base, changes=_changes: change_json(base / "config.json", **changes)
    )
for _name, _changes in {
    "wrong_type": {"hidden_size": "many"}, "odd_heads": {"num_attention_heads": 7, "head_dim": None, "hidden_size": 65},
    "type_missing": {"model_type": None}, "type_unknown": {"model_type": "evil"}, "type_a_list": {"model_type": []},
    "activation": {"hidden_act": "evil"}, "dtype": {"dtype": "evil"},
}.items():  # fmt: skip
    case("base", "config|base|weights|adapter", f"model_{_name}")(
        lambda base, changes=_changes: change_json(base / "config.json", **changes)
    )

# -- programs: patterns, templates, tokenizers -----------------------------------------------------------------------


@case("checkpoint", "field target_modules.*does not end in time")
def pattern_without_end(folder: Path) -> None:
    adapter(folder, target_modules=REDOS)


@case("checkpoint", "field rank_pattern.*does not end in time")
def pattern_of_a_rank_without_end(folder: Path) -> None:
    adapter(folder, rank_pattern={REDOS: 4})


_RECURSION = "{% macro f(n) %}{{ f(n - 1) ~ f(n - 1) if n > 0 else 'x' }}{% endmacro %}{{ f(64) }}"
_DOUBLING = "{% set n = namespace(x='a') %}{% for i in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
_TEMPLATES: dict[str, tuple[str, str]] = {
    "class": ("{{ ''.__class__.__mro__ }}", "reaches for Python's"),
    "globals": ("{{ cycler.__init__.__globals__.os.system('touch EXECUTED') }}", "reaches for Python's"),
    "attribute_filter": ("{{ ()|attr('__class__')|attr('__base__') }}", "reaches for Python's"),
    "item": ("{{ messages['__class__'] }}", "reaches for Python's"),
    "spliced": ("{{ ((''|attr('_' ~ '_class_' ~ '_'))|attr('mr' ~ 'o'))() }}", "reaches for what"),
    "format": ("{{ '{0.__class__.__mro__}'.format(messages).foo() }}", "reaches for what"),
    "range": ("{% for i in range(10**9) %}x{% endfor %}", "takes too much"),
    "range_of_a_number": ("{% for i in range(1000000000) %}x{% endfor %}", "counts to"),
    "nested_ranges": (
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "does not end in time",
    ),
    "product": ("{{ 'a' * 10**10 }}", "takes too much"),
    "power": ("{{ 9**(9**9) }}", "does not end in time|takes too much"),
    "recursion": (_RECURSION, "does not end in time"),
    "doubling": (_DOUBLING, "takes too much"),
    "include": ("{% include '/etc/passwd' %}", "reaches for another file"),
    "import": ("{% import '/etc/passwd' as x %}", "reaches for another file"),
    "extends": ("{% extends '/etc/passwd' %}", "reaches for another file"),
    "syntax": ("{% if %}", "is no chat template"),
    "nested": ("{% if 1 %}" * 3000, "is no chat template|nested"),
    "list_of_lists": ("{{ ([0] * 999999) * 999999 }}", "takes too much|does not end"),
    "padding": ("{{ 'a'.ljust(9**11) }}", "takes too much"),
}
for _name, (_text, _words) in _TEMPLATES.items():
    case("base", f"chat_template.jinja {_words}", f"template_{_name}")(lambda base, text=_text: template(base, text))


@case("base", r"tokenizer_config.json, field chat_template.* reaches for Python's")
def template_in_the_configuration(base: Path) -> None:
    change_json(base / "tokenizer_config.json", chat_template="{{ ''.__class__ }}")


@case("base", r"field chat_template\[1\] reaches for Python's")
def template_among_named_ones(base: Path) -> None:
    named = [{"name": "default", "template": "x"}, {"name": "tool_use", "template": "{{ ''.__class__ }}"}]
    change_json(base / "tokenizer_config.json", chat_template=named)


@case("base", "field chat_template: not a text")
def template_is_no_text(base: Path) -> None:
    change_json(base / "tokenizer_config.json", chat_template=[{"name": "default", "template": 7}])


@case("base", "additional.jinja reaches for Python's")
def template_in_a_folder(base: Path) -> None:
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "additional.jinja").write_text("{{ ''.__class__ }}")


@case("base", "chat_template.jinja.*bytes, more than")
def template_of_a_gigabyte(base: Path) -> None:
    sparse(base / "chat_template.jinja", 1 << 30)


@case("checkpoint", "chat_template.jinja reaches for Python's")
def template_of_a_checkpoint(folder: Path) -> None:
    adapter(folder)
    template(folder, "{{ ''.__class__ }}")


@case("base", "tokenizer.json (fails|takes|does not|is no)")
def tokenizer_that_pads_for_ever(base: Path) -> None:
    padding = {
        "strategy": {"Fixed": 10**10}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 2,
        "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    change_json(base / "tokenizer.json", padding=padding)


@case("base", "tokenizer.json (does not end in time|is no tokenizer|fails)")
def tokenizer_with_a_pattern_without_end(base: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": "(a+)+(a+)+(a+)+$"}, "behavior": "Isolated", "invert": False}
    change_json(base / "tokenizer.json", pre_tokenizer=split)


@case("base", "tokenizer.json (fails|does not end in time|is no)")
def tokenizer_that_grows(base: Path) -> None:
    grow = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 4
    change_json(base / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": grow})


@case("base", "tokenizer.json is no tokenizer")
def tokenizer_that_is_none(base: Path) -> None:
    (base / "tokenizer.json").write_text('{"model": 1}')


@case("base", "tokenizer.json.*bytes, more than")
def tokenizer_of_a_gigabyte(base: Path) -> None:
    sparse(base / "tokenizer.json", 1 << 30)


# -- data ------------------------------------------------------------------------------------------------------------

ROW = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
_MESSAGES: dict[str, tuple[str, bytes, str]] = {
    "deep": ("x.jsonl", b'{"messages": ' + DEEP.encode(), "x.jsonl:1: not valid JSON"),
    "deep_list": ("x.json", DEEP.encode(), "x.json: cannot be read"),
    "crowd": ("x.json", b"[" + b"[]," * 4_000_000 + b"[]]", "x.json: .*values"),
    "utf16": ("x.jsonl", ROW.decode().encode("utf-16"), "x.jsonl: cannot be read"),
    "role": ("x.jsonl", ROW.replace(b"user", b"\\u001b[2Jroot"), r"role is '\\x1b"),
    "role_list": ("x.jsonl", ROW.replace(b'"user"', b"[[]]"), "role is"),
    "content_number": ("x.jsonl", ROW.replace(b'"a"', b"1e999"), "content is missing"),
    "huge_number": ("x.jsonl", b'{"messages": ' + b"9" * 10_000 + b"}", "x.jsonl:1: not valid JSON"),
    "pickle": ("x.parquet", pickle.dumps(["x"]), "x.parquet: cannot be read"),
    "pickle_suffix": ("x.pkl", pickle.dumps(["x"]), "no format of conversations|no such file"),
    "gzip_cut": ("x.jsonl.gz", gzip.compress(ROW * 1000)[:-20], "x.jsonl.gz: cannot be read"),
    "gzip_none": ("x.jsonl.gz", ROW, "x.jsonl.gz: cannot be read"),
}
for _name, (_file, _bytes, _words) in _MESSAGES.items():

    def _data(folder: Path, name: str = _file, content: bytes = _bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    case("messages", _words, f"messages_{_name}")(_data)


@functools.cache
def large_bomb() -> bytes:
    """Returns 256 MiB of spaces, which gzip makes a thousandth of."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6) as file:
        for _ in range(256):
            file.write(b" " * (1 << 20))
    return buffer.getvalue()


@case("messages", "x.jsonl.gz.*unpacks to more than|x.jsonl.gz.*line 1")
def messages_bomb(folder: Path) -> Path:
    (folder / "x.jsonl.gz").write_bytes(large_bomb())
    return folder / "x.jsonl.gz"


@case("messages", "x.json.gz.*(unpacks to|has) more than")
def messages_bomb_of_json(folder: Path) -> Path:
    (folder / "x.json.gz").write_bytes(large_bomb())
    return folder / "x.json.gz"


@case("messages", "x.jsonl.*line 1 has more than")
def messages_line_of_a_gigabyte(folder: Path) -> Path:
    sparse(folder / "x.jsonl", 1 << 30, b'{"messages": "')
    return folder / "x.jsonl"


@case("messages", "x.json.*1,073,741,824 bytes")
def messages_file_of_a_gigabyte(folder: Path) -> Path:
    sparse(folder / "x.json", 1 << 30, b'[{"messages": "')
    return folder / "x.json"


@case("messages", "x.parquet.*(unpack|rows)")
def messages_parquet_bomb(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({"messages": pyarrow.array(["x"]).take(pyarrow.array(numpy.zeros(3_000_000, "int32")))})
    parquet.write_table(table, folder / "x.parquet", compression="gzip")
    return folder / "x.parquet"


@case("messages", "no such file")
def messages_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.jsonl")
    return folder / "x.jsonl"


def superni(folder: Path, content: Any, names: bytes = b"task1_x\n") -> None:
    (folder / "tasks").mkdir()
    (folder / "splits" / "default").mkdir(parents=True)
    (folder / "splits" / "default" / "train_tasks.txt").write_bytes(names)
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "tasks" / "task1_x.json").write_bytes(text)


TASK: dict[str, Any] = {
    "Categories": ["a"], "Definition": ["b"], "Positive Examples": [], "Negative Examples": [],
    "Instances": [{"id": "1", "input": "x", "output": ["y"]}],
}  # fmt: skip
_WRONG: dict[str, dict[str, Any]] = {
    "categories": {"Categories": {"a": 1}}, "definition": {"Definition": 7}, "positive": {"Positive Examples": "x"},
    "negative": {"Negative Examples": [1]}, "instances": {"Instances": {}}, "input": {"Instances": [{"input": []}]},
    "output": {"Instances": [{"input": "x", "output": [1]}]}, "empty": {"Instances": []},
}  # fmt: skip
for _name, _fields in _WRONG.items():
    case("superni", f"task1_x.json: field '{next(iter(_fields))}", f"superni_{_name}")(
        lambda folder, fields=_fields: superni(folder, {**TASK, **fields})
    )
for _name, _bytes in {
    "deep": b'{"Categories": ' + DEEP.encode(), "crowd": b'{"Instances": [' + b"[]," * 4_000_000 + b"[]]}",
    "list": b"[]", "utf16": json.dumps(TASK).encode("utf-16"), "huge_number": b'{"Categories": ' + b"9" * 9999 + b"}",
}.items():  # fmt: skip
    case("superni", "task1_x.json", f"superni_{_name}")(lambda folder, content=_bytes: superni(folder, content))
for _number, _line in enumerate((b"../../secret", b"/etc/passwd", b"a\0b", b"\x1b[2J", b"..", b"a/b")):
    case("superni", "train_tasks.txt: .* no name of a task", f"superni_split_{_number}")(
        lambda folder, line=_line: superni(folder, TASK, line + b"\n")
    )


@case("superni", "task1_x.json.*1,073,741,824 bytes")
def superni_task_of_a_gigabyte(folder: Path) -> None:
    superni(folder, TASK)
    sparse(folder / "tasks" / "task1_x.json", 1 << 30, b'{"Categories": "')


@case("superni", "train_tasks.txt.*bytes")
def superni_split_of_a_gigabyte(folder: Path) -> None:
    superni(folder, TASK)
    sparse(folder / "splits" / "default" / "train_tasks.txt", 1 << 30, b"task1_x\n")


@case("superni", "train_tasks.txt.*pipe")
def superni_split_is_a_pipe(folder: Path) -> None:
    superni(folder, TASK)
    (folder / "splits" / "default" / "train_tasks.txt").unlink()
    os.mkfifo(folder / "splits" / "default" / "train_tasks.txt")


def suite(reader: str, file: str, content: bytes | int | Callable[[], bytes], *arguments: Any) -> Make:
    """A file of a suite's data; a number makes it as large, and of nothing."""

    def make(folder: Path) -> tuple[Any, ...]:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, int):
            sparse(path, content, b'{"question": "')
        else:
            path.write_bytes(content() if callable(content) else content)
        return (reader, folder, *arguments)

    return make


_CELL = b'"' + b"x" * 200_000 + b'",a,b,c,d,A\n'
_TYDI = {"data": [{"paragraphs": [{"context": "x", "qas": [{"id": ["x"], "question": 1, "answers": []}]}]}]}
_SUITES: dict[str, tuple[str, Make]] = {
    "mmlu_cell": ("virology_test.csv:1", suite("mmlu", "test/virology_test.csv", _CELL, "test", "virology")),
    "mmlu_gigabyte": ("virology_test", suite("mmlu", "test/virology_test.csv", 1 << 30, "test", "virology")),
    "gsm8k_line": ("test.jsonl.*line 1 has more than", suite("gsm8k", "test.jsonl", 1 << 30)),
    "gsm8k_deep": ("test.jsonl:1", suite("gsm8k", "test.jsonl", DEEP.encode())),
    "human_eval_bomb": ("unpacks to more than|line 1", suite("human_eval", "HumanEval.jsonl.gz", large_bomb)),
    "bbh_deep": ("navigate.json", suite("bbh", "bbh/navigate.json", DEEP.encode(), "navigate")),
    "bbh_crowd": ("values", suite("bbh", "bbh/navigate.json", b"[" + b"{}," * 4_000_000 + b"{}]", "navigate")),
    "tydiqa_types": ("dev.json", suite("tydiqa", "tydiqa-goldp-v1.1-dev.json", json.dumps(_TYDI).encode(), "dev")),
    "tydiqa_list": ("dev.json", suite("tydiqa", "tydiqa-goldp-v1.1-dev.json", b"[[]]", "dev")),
    "alpaca_deep": ("alpaca_eval.json", suite("alpaca_eval", "alpaca_eval.json", DEEP.encode())),
    "alpaca_gigabyte": ("alpaca_eval.json.*bytes", suite("alpaca_eval", "alpaca_eval.json", 1 << 30)),
    "truthfulqa_cell": ("TruthfulQA.csv", suite("truthfulqa", "TruthfulQA.csv", b"Category," + _CELL)),
    "truthfulqa_gigabyte": ("TruthfulQA.csv.*bytes", suite("truthfulqa", "TruthfulQA.csv", 1 << 30)),
}
for _name, (_words, _make) in _SUITES.items():
    case("suite", _words, f"suite_{_name}")(_make)

# -- archives --------------------------------------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    one = tarfile.TarInfo(name)
    one.type = kind
    for field, value in fields.items():
        setattr(one, field, value)
    return one


def archive(*members: tarfile.TarInfo, packed: bool = True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if packed else "w:") as tar:
        for one in members:
            tar.addfile(one, io.BytesIO(bytes(one.size)) if one.size < 1 << 20 else None)
    return buffer.getvalue()


def sized(name: str, size: int) -> bytes:
    """An archive whose one header says any size, and nothing follows."""
    return gzip.compress(member(name, size=size).tobuf(tarfile.GNU_FORMAT))


def extended_header() -> bytes:
    """An archive that begins with an extension header of 256 MiB, which tarfile would read at once."""
    head = member("x", tarfile.XHDTYPE, size=1 << 28).tobuf(tarfile.PAX_FORMAT)
    return gzip.compress(head) + large_bomb()


_ARCHIVES: dict[str, tuple[str, bytes | Callable[[], bytes]]] = {
    "up": ("leads out", archive(member("repo/tasks/../../../up", size=1))),
    "absolute": ("leads out", archive(member("/etc/peft-eval-was-here", size=1))),
    "backslash": ("leads out", archive(member("repo\\..\\..\\x", size=1))),
    "link": ("is a link or a device", archive(member("repo/tasks/l", tarfile.SYMTYPE, linkname="/etc"))),
    "hard_link": ("is a link or a device", archive(member("repo/tasks/l", tarfile.LNKTYPE, linkname="/etc/passwd"))),
    "device": ("is a link or a device", archive(member("repo/tasks/d", tarfile.BLKTYPE, devmajor=8))),
    "pipe": ("is a link or a device", archive(member("repo/tasks/p", tarfile.FIFOTYPE))),
    "twice": ("twice", archive(member("repo/tasks/a", size=1), member("repo/tasks/a", size=1))),
    "terabyte": ("too large", sized("repo/tasks/a.json", 1 << 40)),
    "terabyte_beside": ("too large", sized("repo/elsewhere/a.json", 1 << 40)),
    "negative": ("test_tasks.txt", sized("repo/tasks/a.json", -5)),
    "header": ("a header of", extended_header),
    "crowd": ("too many", archive(*(member(f"repo/x/{number}") for number in range(20_001)))),
    "zeros": ("refused|whole|tasks", large_bomb),
    "zip": ("not a whole", b"PK\3\4" + bytes(2000)),
    "gzip_in_gzip": ("not a whole", gzip.compress(gzip.compress(archive(member("repo/tasks/a", size=1))))),
    "nothing": ("not a whole", gzip.compress(b"")),
}
for _name, (_words, _bytes) in _ARCHIVES.items():
    case("archive", _words, f"archive_{_name}")(
        lambda folder, content=_bytes: content() if callable(content) else content
    )


@case("archive", "sends 1,125,899,906,842,624 bytes")
def archive_of_a_petabyte(folder: Path) -> tuple[bytes, dict[str, str]]:
    return b"x", {"Content-Length": str(1 << 50)}


# -- names on the command line ---------------------------------------------------------------------------------------

_TRAIN = ("train", "--base", "BASE", "--output", "OUTPUT")
_COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "data": ("unknown data", (*_TRAIN, "--method", "lora", "--data", "os;touch EXECUTED")),
    "method": ("unknown method", (*_TRAIN, "--method", "../../os", "--data", "mini")),
    "zoo": ("zoo", ("merge", "zoo:../../../etc", "--output", "OUTPUT")),
    "zoo_absolute": ("zoo", ("merge", "zoo:/etc", "--output", "OUTPUT")),
    "escape": (r"\\x1b", ("merge", "./\x1b[2Jnothing", "--output", "OUTPUT")),
}
for _name, (_words, _command) in _COMMANDS.items():
    case("command", _words, f"name_of_a_{_name}")(lambda folder, command=_command: command)
