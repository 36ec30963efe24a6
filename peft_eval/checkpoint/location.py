"""From what a user writes for a model or checkpoint to a folder on this machine.

Three spellings are understood everywhere: a folder, `zoo:NAME[@VERSION]`, and a hub id `ORG/NAME[@REVISION]`.
"""

from __future__ import annotations

import re
from pathlib import Path

from peft_eval.checkpoint import zoo_index
from peft_eval.errors import CheckpointError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
# Nothing that could execute is ever fetched: no .bin, .pt, .py.
_SAFE_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]


def zoo_names() -> list[str]:
    """Returns the names that may follow `zoo:`."""
    return zoo_index.all_names()


def split_revision(reference: str) -> tuple[str, str | None]:
    """Splits `ORG/NAME@REVISION` into id and revision."""
    name, _, revision = reference.partition("@")
    return name, revision or None


def pinned(reference: str, revision: str | None = None) -> str | None:
    """Returns what a `zoo:` reference stands for, version included; None for any other reference."""
    return zoo_index.find(reference, version=revision).pinned if reference.startswith("zoo:") else None


def is_local(reference: str) -> bool:
    """Tells whether a reference is found on this machine, without asking a hub."""
    return reference.startswith("zoo:") or Path(reference).expanduser().is_dir()


def resolve_folder(reference: str, *, revision: str | None = None) -> Path:
    """Returns the local folder that a reference stands for, fetching it from the hub if need be.

    Args:
        reference: a folder, `zoo:NAME[@VERSION]` or `ORG/NAME[@REVISION]`.
        revision: a hub revision or a version of the zoo, where the reference has none of its own.

    Raises:
        CheckpointError: there is no such folder and it cannot be fetched.
        ConfigError: the zoo has no such name or version.
    """
    if reference.startswith("zoo:"):
        return zoo_index.find(reference, version=revision).folder
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or reference.startswith((".", "~")) or not _HUB_ID.fullmatch(reference):
        raise CheckpointError("there is no such folder", place=reference, remedy="check the path")
    return _fetch_from_hub(reference, revision)


def _fetch_from_hub(reference: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    hub_id, own_revision = split_revision(reference)
    try:
        return Path(snapshot_download(hub_id, revision=own_revision or revision, allow_patterns=_SAFE_PATTERNS))
    except Exception as error:  # the hub's client raises a dozen unrelated types, offline ones included
        said = str(error).strip().removeprefix("Got: ")
        reason = said.splitlines()[0] if said else type(error).__name__
        raise CheckpointError(
            f"neither a folder here nor reachable on the hub: {reason}",
            place=reference,
            remedy="check the spelling, the network and HF_TOKEN, or pass a local folder",
        ) from error
