"""Which files a zoo holds: safetensors, and text that is known; never a pickle, a program, an archive or a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peft_eval.checkpoint.zoo_index import NAME
from peft_eval.errors import CheckpointError

CARD_NAME = "README.md"
SCORES_NAME = "scores.json"
SIGNATURE_NAME = "model.sig"
_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".md", ".yaml", ".yml", ".toml")
_WHOLE_NAMES = ("tokenizer.model", "spiece.model", "LICENSE", "NOTICE", SIGNATURE_NAME)
# What trainers leave beside a checkpoint, which is of no use to others and may hold paths and names of a machine.
_LEFT_OUT = ("zoo.json", "trainer_state.json", "optimizer.json", "vocab_size.txt")


@dataclass(frozen=True)
class Scan:
    """What of a folder goes into a zoo.

    Attributes:
        names: files to store.
        left_out: everything else, by name.
    """

    names: list[str]
    left_out: list[str]


def is_storable(name: str) -> bool:
    """Tells whether a zoo holds files of this name."""
    return bool(NAME.fullmatch(name)) and (name.endswith(_SUFFIXES) or name in _WHOLE_NAMES)


def scan(folder: Path, *, follow_links: bool = False) -> Scan:
    """Looks through a checkpoint's folder.

    Args:
        folder: the folder; what is in folders below it is left out.
        follow_links: take links for what they lead to, as in the hub client's own cache.

    Raises:
        CheckpointError: a file that would be stored is a link, a pipe or a device.
    """
    names, left_out = [], []
    for entry in _entries(folder):
        if not is_storable(entry.name) or entry.name in _LEFT_OUT or entry.is_dir(follow_symlinks=False):
            left_out.append(entry.name)
        elif entry.is_file(follow_symlinks=follow_links):
            names.append(entry.name)
        else:
            raise CheckpointError(
                f"{entry.name} is a link or no plain file", place=str(folder), remedy="put the file itself there"
            )
    return Scan(sorted(names), sorted(left_out))


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries
