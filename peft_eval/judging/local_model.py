"""Loads a judge from a folder or the hub with transformers: weights from safetensors, no code from the repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft_eval.errors import ConfigError, JudgeError


def check(name: str, place: str) -> None:
    """Makes sure, without loading it, that a model is there with a config and safetensors weights.

    Args:
        name: folder or hub id.
        place: the setting that names it, for errors.

    Raises:
        ConfigError: it is not.
    """
    import transformers

    try:
        transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_be_loaded(name, place, error) from error
    folder = Path(name).expanduser()
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise _cannot_be_loaded(name, place, "it has no *.safetensors")


def load(kind: str, name: str, place: str, device: str | None = None) -> tuple[Any, Any]:
    """Returns a model in evaluation mode and its tokenizer.

    Args:
        kind: class of transformers, e.g. `AutoModelForSequenceClassification`.
        name: folder or hub id.
        place: the setting that names it, for errors.
        device: where it runs; a GPU where there is one, unless told otherwise.

    Raises:
        ConfigError: it is not there, or not in a form that is loaded.
        JudgeError: it does not fit into the GPU's memory.
    """
    import torch
    import transformers

    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = getattr(transformers, kind).from_pretrained(
            name, trust_remote_code=False, use_safetensors=True, dtype="auto"
        )
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_be_loaded(name, place, error) from error
    with enough_memory(place):
        return model.to(target).eval(), tokenizer


def _cannot_be_loaded(name: str, place: str, reason: object) -> ConfigError:
    return ConfigError(
        f"{name!r} cannot be loaded: {' '.join(str(reason).split())[:300]}",
        place=place,
        remedy="name a folder or hub id with safetensors weights and a tokenizer",
    )


@contextmanager
def enough_memory(place: str) -> Iterator[None]:
    """Makes a full GPU one line that says how to go on.

    Raises:
        JudgeError: the GPU's memory is full.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise JudgeError(
            "the GPU's memory is full",
            place=place,
            remedy="give the evaluated model less (--model_args gpu_memory_utilization=0.5), set judge_device=cpu",
        ) from error


def by_length(texts: list[Any], size: int) -> Iterator[list[int]]:
    """Yields the positions of all texts in batches of like lengths, the longest first."""
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    for start in range(0, len(order), size):
        yield order[start : start + size]
