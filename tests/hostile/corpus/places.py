"""Names that lead out of the folder, and what is there but is no file."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from tests.hostile.corpus.cases import (
    adapter,
    case,
    manifest,
)


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
