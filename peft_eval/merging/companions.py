"""The files beside a merged model's weights: config, generation config, tokenizer and chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from peft_eval.checkpoint.reading import Checkpoint, read_json
from peft_eval.checkpoint.writing import CHAT_TEMPLATE, copy_companions
from peft_eval.errors import RouteError

# What models that read more than text have besides.
_PROCESSORS = ("processor_config.json", "preprocessor_config.json")


def write_companions(
    checkpoint: Checkpoint, base_folder: Path, folder: Path, *, overrides: dict[str, Any], dtype: torch.dtype | None
) -> None:
    """Writes all that a model folder needs besides its weights.

    The base's files come first, byte for byte; a checkpoint's own tokenizer replaces the base's, as does its template.

    Args:
        checkpoint: the checkpoint that is merged.
        base_folder: its base; the checkpoint's own folder if it is a whole model.
        folder: where to.
        overrides: settings of the base's config that the merged model needs otherwise.
        dtype: precision of the weights; None leaves what the config says.
    """
    config = changed_config(read_json(base_folder / "config.json"), overrides, dtype)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer_folder = checkpoint.folder if checkpoint.has_tokenizer else base_folder
    copy_companions(tokenizer_folder, folder, full=False)
    template = checkpoint.folder / CHAT_TEMPLATE
    for source in (base_folder / "generation_config.json", *(base_folder / name for name in _PROCESSORS), template):
        if source.is_file():
            shutil.copyfile(source, folder / source.name)


def changed_config(config: dict[str, Any], overrides: dict[str, Any], dtype: torch.dtype | None) -> dict[str, Any]:
    """Returns a model's config with other values for some settings, everything else as it was.

    Args:
        config: the content of `config.json`.
        overrides: settings by name; one that only the nested text model has is set there.
        dtype: what the config shall say of the weights' precision.

    Raises:
        RouteError: the config says that the weights are stored quantised, which are no numbers to add to.
    """
    if method := config.get("quantization_config"):
        name = method.get("quant_method", "?") if isinstance(method, dict) else "?"
        raise RouteError(
            f"the base's files are stored quantised ({name}), and cannot be merged into",
            remedy="pass the base that they were made from with --base",
        )
    changed = json.loads(json.dumps(config))
    text = changed.get("text_config")
    for name, value in overrides.items():
        place = text if isinstance(text, dict) and name in text and name not in changed else changed
        place[name] = value
    if dtype is not None:
        named = str(dtype).removeprefix("torch.")
        for place in (changed, text) if isinstance(text, dict) else (changed,):
            # transformers before 4.56 calls it torch_dtype
            keys = [key for key in ("dtype", "torch_dtype") if key in place]
            for key in keys or (["dtype"] if place is changed else []):
                place[key] = named
    return changed
