"""Configurations and manifests that are no JSON, of wrong types, or of absurd numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.hostile.corpus.cases import (
    DEEP,
    LORA,
    adapter,
    case,
    change_json,
    manifest,
    sparse,
    template,
)

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
