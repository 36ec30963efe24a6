"""Checkpoints on the Hugging Face hub: one repository each, in peft's layout, each version a tag.

The card's front matter has what the hub reads (library, base, licence, model-index), so that a visitor without
peft-eval finds and uses it too. Token and endpoint are huggingface_hub's own: HF_TOKEN, `hf auth login`, HF_ENDPOINT.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from peft_eval.checkpoint.hashing import file_sha256
from peft_eval.checkpoint.location import split_revision
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.checkpoint.zoo_index import ZooPlace
from peft_eval.errors import CheckpointError, ConfigError
from peft_eval.merging.upload import push_folder
from peft_eval.zoo.adding import Addition, add
from peft_eval.zoo.files import is_storable
from peft_eval.zoo.folder_zoo import FolderZoo, check_not_shipped
from peft_eval.zoo.records import RECORD_NAME, VersionRecord, read_record

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.md", "*.yaml", "LICENSE", "model.sig"]


def push_to_hub(place: ZooPlace, hub_id: str, *, private: bool = False) -> str:
    """Uploads a version in one commit and tags it with the version.

    Returns:
        A line with the commit's address.

    Raises:
        ConfigError: not `ORG/NAME`.
        CheckpointError: the hub refuses or cannot be reached.
    """
    _check_id(hub_id)
    address = push_folder(place.folder, hub_id, private=private)
    from huggingface_hub import HfApi

    try:
        HfApi().create_tag(hub_id, tag=place.version, exist_ok=True)
    except Exception as error:  # the client raises a dozen unrelated types
        raise CheckpointError(
            f"uploaded, but not tagged {place.version}: {_line(error)}", place=hub_id, remedy="push it again"
        ) from error
    return f"{place.pinned}: sent, {address}"


def pull_from_hub(reference: str, zoo: FolderZoo) -> tuple[ZooPlace, bool]:
    """Fetches a repository into a zoo: a version that was pushed as it is, any other checkpoint as `zoo add` does.

    Args:
        reference: `ORG/NAME[@REVISION]`; a version is a revision.
        zoo: where it goes.

    Returns:
        Its place, and whether it was not there before.

    Raises:
        ConfigError: not `ORG/NAME`.
        CheckpointError: it cannot be fetched, is damaged or unsafe.
    """
    hub_id, revision = split_revision(reference)
    _check_id(hub_id)
    folder = _snapshot(hub_id, revision)
    record = read_record(folder)
    if record is None:
        added = add(Addition(reference, name=hub_id.rpartition("/")[2]), zoo)
        return added.place, added.is_new
    check_not_shipped(record.name, zoo.folder)
    if (there := zoo.place(record.name, record.version)) is not None:
        return there, False
    with zoo.scratch(f"{record.name}-{record.version}") as scratch:
        _take(folder, record, scratch, hub_id)
        open_checkpoint(str(scratch))
        return zoo.put(scratch, record)


def _check_id(hub_id: str) -> None:
    if not _HUB_ID.fullmatch(hub_id):
        raise ConfigError(f"{hub_id!r} is no name on the hub", place="hf:", remedy="write hf:ORG/NAME")


def _snapshot(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=_PATTERNS))
    except Exception as error:
        raise CheckpointError(
            f"not fetched from the hub: {_line(error)}", place=hub_id, remedy="check the name, the network and HF_TOKEN"
        ) from error


def _take(folder: Path, record: VersionRecord, scratch: Path, hub_id: str) -> None:
    """Copies what the record lists out of the hub client's cache, where files are links, and holds it against it."""
    for path in scratch.iterdir():
        path.unlink()
    for name, expected in record.files.items():
        assert is_storable(name)
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing", place=hub_id, remedy="tell its owner")
        shutil.copyfile(folder / name, scratch / name)
        if file_sha256(scratch / name) != expected.sha256:
            raise CheckpointError(f"{name} is not the file that {RECORD_NAME} lists", place=hub_id, remedy="pull again")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
