"""Configurations that name code to be run."""

from __future__ import annotations

import json
from pathlib import Path

from tests.hostile.corpus.cases import (
    adapter,
    case,
    change_json,
)


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
