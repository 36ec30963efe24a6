"""Tries what a folder brings that is a program in its own way, before it is used: templates, tokenizers, patterns.

A chat template is a program (Jinja), a tokenizer may pad to any length, a pattern may take for ever on one name. What
they do cannot be read off them, so each is tried on a sample, in a process of its own that has little memory and
little time, and reaches nothing. What passed is remembered by its hash. A program that waits for a certain text to
misbehave passes; transformers' sandbox then still keeps it from reaching out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from peft_eval.checkpoint.hashing import file_sha256
from peft_eval.errors import CheckpointError
from peft_eval.plain_files import UnsafeFileError, read_bounded, shown

_PROGRAM = Path(__file__).with_name("trial_program.py")
_TEMPLATE_BYTES = 1 << 20
_WALL_SECONDS = 60.0  # only for a machine that is overrun: the program counts processor time
_PATTERN_SIGNS = re.compile(r"[*+?{(|\[]")
_NO_PATTERNS = ("base_model_name_or_path", "prompt_tuning_init_text", "tokenizer_name_or_path", "version")
_MOST_NAMES = 200
_USUAL_NAMES = (
    "lm_head",
    "model.embed_tokens",
    "model.layers.31.self_attn.q_proj",
    "model.layers.31.mlp.down_proj",
    "transformer.h.47.attn.c_attn",
    "base_model.model.model.decoder.layers.11.fc1",
)


def try_out(folder: Path, contents: dict[str, dict[str, Any]], tensors: list[str]) -> None:
    """Tries a folder's chat templates, its tokenizer and its patterns.

    Args:
        folder: the folder.
        contents: its configurations by file name.
        tensors: names of its tensors, which patterns are tried on.

    Raises:
        CheckpointError: one of them reaches for what it must not, takes too long or too much; the message names it.
    """
    tokenizer = folder / "tokenizer.json"
    asked = {
        "templates": _templates(folder, contents.get("tokenizer_config.json", {})),
        "tokenizer": str(tokenizer.absolute()) if tokenizer.is_file() else None,
        "patterns": _patterns(contents.get("adapter_config.json", {})),
        "names": [*_USUAL_NAMES, *sorted({name.rpartition(".")[0] for name in tensors})[:_MOST_NAMES]],
    }
    if not asked["templates"] and not asked["tokenizer"] and not asked["patterns"]:
        return
    known = _entry({**asked, "tokenizer": file_sha256(tokenizer) if tokenizer.is_file() else None})
    if known.is_file():
        return
    if problem := _problem(asked):
        raise CheckpointError(f"refused: {problem}", place=str(folder))
    try:
        known.parent.mkdir(parents=True, exist_ok=True)
        known.touch()
    except OSError:
        pass  # without a cache it is tried again next time


def _templates(folder: Path, tokenizer_config: dict[str, Any]) -> dict[str, str]:
    """Returns every chat template of a folder, by the place where it stands."""
    found: dict[str, str] = {}
    for path in (*sorted(folder.glob("*.jinja")), *sorted(folder.glob("additional_chat_templates/*.jinja"))):
        try:
            found[path.name] = read_bounded(path, _TEMPLATE_BYTES).decode("utf-8")
        except (UnsafeFileError, UnicodeDecodeError, OSError) as error:
            raise CheckpointError(f"refused: {error}", place=str(path)) from error
    carried = tokenizer_config.get("chat_template")
    named = carried if isinstance(carried, list) else [{"template": carried}] if carried is not None else []
    for number, one in enumerate(named):
        text = one.get("template") if isinstance(one, dict) else None
        if not isinstance(text, str):
            raise CheckpointError("field chat_template: not a text", place=str(folder / "tokenizer_config.json"))
        found[f"tokenizer_config.json, field chat_template{f'[{number}]' if len(named) > 1 else ''}"] = text
    return found


def _patterns(adapter_config: dict[str, Any]) -> dict[str, str]:
    """Returns every text of an adapter's configuration that may be used as a regular expression."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [(key, value) for key, value in adapter_config.items() if key not in _NO_PATTERNS]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{place}.{shown(key, 40)[1:-1]}", [key, inner]) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(place, inner) for inner in value]
        elif isinstance(value, str) and _PATTERN_SIGNS.search(value):
            found[f"adapter_config.json, field {place} {shown(value, 40)}"] = value
    return found


def _entry(asked: dict[str, Any]) -> Path:
    key = hashlib.sha256(_PROGRAM.read_bytes() + json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return user_cache_path("peft_eval") / "tried" / key


def _problem(asked: dict[str, Any]) -> str | None:
    """Runs the trial; returns what is wrong, None if nothing is."""
    environment = {"PATH": os.defpath, "TOKENIZERS_PARALLELISM": "false", "PEFT_EVAL_AUTOLOAD": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_PROGRAM)],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=_WALL_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"its trial did not end within {_WALL_SECONDS:g} s"
    told = done.stdout.decode("utf-8", "replace").splitlines()
    if done.returncode == 0:
        return None
    stage = told[-1] if told else "the folder"
    if done.returncode == 1:
        return f"{stage} {done.stderr.decode('utf-8', 'replace').strip().splitlines()[-1]}"
    if done.returncode == -signal.SIGPROF:
        return f"{stage} does not end in time when it is used on a sample"
    return f"{stage} fails or takes too much memory when it is used on a sample"
