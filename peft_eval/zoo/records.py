"""What a zoo writes down: `zoo.json` in each version's folder, and a line for it in `index.json`.

A version is named by what is in it: the first twelve digits of a hash over its files. The card, the scores, and the
signature are left out of that hash: they change nothing that runs. Their own hashes are in `zoo.json` all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from peft_eval.checkpoint.manifest import FileRecord
from peft_eval.checkpoint.zoo_index import LATEST, NAME, TAG, VERSION, is_plain_path
from peft_eval.errors import CheckpointError, ConfigError
from peft_eval.zoo.files import CARD_NAME, SCORES_NAME, SIGNATURE_NAME, is_storable

RECORD_NAME = "zoo.json"
RECORD_FORMAT = 1
BESIDE_THE_CONTENT = (CARD_NAME, SCORES_NAME, SIGNATURE_NAME)


def _plain_path(path: str) -> str:
    if not is_plain_path(path):
        raise ValueError(f"{path!r} does not stay inside the zoo")
    return path


def _storable(name: str) -> str:
    if not is_storable(name):
        raise ValueError(f"{name!r} is no file that a zoo holds")
    return name


def _sha256(digest: str) -> str:
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError("not a SHA-256 in hexadecimal digits")
    return digest


def _name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name")
    return name


def _tag(tag: str) -> str:
    if not is_tag(tag):
        raise ValueError(f"{tag!r} is no tag")
    return tag


PlainPath = Annotated[str, AfterValidator(_plain_path)]
Name = Annotated[str, AfterValidator(_name)]
Version = Annotated[str, Field(pattern=f"^{VERSION.pattern}$")]
FileName = Annotated[str, AfterValidator(_storable)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


_Model = TypeVar("_Model", bound=_Part)


class StoredFile(FileRecord):
    """Size and hash of a file."""

    bytes: int = Field(ge=0)
    sha256: Annotated[str, AfterValidator(_sha256)]


class Probe(_Part):
    """What the adapter changed on the probe prompts when it was added: logits of base + adapter against the base.

    Attributes:
        largest: the largest difference of a logit.
        mean: the mean difference.
        dtype: precision of the arithmetic.
    """

    largest: float
    mean: float
    dtype: str


class About(_Part):
    """What is known of a checkpoint; what is not is None, and listed in `unknown`.

    Attributes:
        kind: an adapter, or full weights.
        base: the base as it can be named anywhere: `zoo:NAME` or a hub id.
        base_revision: the zoo's version or the hub's commit.
        base_sha256: hash over the base's weight files.
        weights_sha256: hash over its own weight files.
        parameters: how many weights were trained.
        trainer: what trained it.
        facts: what else its files say, with the file that says it.
        losses: (step, training loss).
        unknown: what nothing in it tells.
        probe: None where the base was not at hand.
    """

    kind: Literal["adapter", "full"]
    method: str | None = None
    base: str | None = None
    base_revision: str | None = None
    base_sha256: str | None = None
    weights_sha256: str | None = None
    parameters: int | None = None
    data: str | None = None
    trainer: str | None = None
    created: str | None = None
    licence: str | None = None
    summary: str | None = None
    facts: dict[str, str] = Field(default_factory=dict)
    losses: list[tuple[int, float]] = Field(default_factory=list)
    unknown: list[str] = Field(default_factory=list)
    probe: Probe | None = None


class VersionRecord(_Part):
    """`zoo.json`: one version of a checkpoint, with the hash of every file."""

    format_version: Literal[1] = 1
    name: Name
    version: Version
    added: str
    about: About
    files: dict[FileName, StoredFile]

    def check(self, place: str) -> None:
        """Holds the version against the files' hashes.

        Raises:
            CheckpointError: the version is not that of these files.
        """
        if (found := version_of(self.files)) != self.version:
            raise CheckpointError(f"its files make version {found}, it says {self.version}", place=place)


class IndexRow(_Part):
    """A version as the index lists it.

    Attributes:
        folder: where its files are, below the index.
        scores: by suite and metric, the value with half the width of its 95% interval.
    """

    folder: PlainPath
    kind: Literal["adapter", "full"]
    method: str | None = None
    base: str | None = None
    bytes: int = Field(ge=0)
    parameters: int | None = None
    licence: str | None = None
    summary: str | None = None
    weights_sha256: str | None = None
    added: str
    scores: dict[str, dict[str, tuple[float, float | None]]] = Field(default_factory=dict)


class Entry(_Part):
    """All versions of a name; `latest` is the one added last."""

    latest: Version
    tags: dict[Annotated[str, AfterValidator(_tag)], Version] = Field(default_factory=dict)
    versions: dict[Version, IndexRow]


class Index(_Part):
    """`index.json`."""

    format_version: Literal[1] = 1
    entries: dict[Name, Entry] = Field(default_factory=dict)

    def to_json(self) -> str:
        """Returns the file's text: one line a name, so that a change is a line."""
        lines = [
            f"{json.dumps(name)}: {entry.model_dump_json(exclude_none=True)}"
            for name, entry in sorted(self.entries.items())
        ]
        return f'{{\n"format_version": {self.format_version},\n"entries": {{\n' + ",\n".join(lines) + "\n}\n}\n"


def version_of(files: Mapping[str, FileRecord]) -> str:
    """Returns the version that files make: twelve hex digits of a hash over names and hashes."""
    lines = (f"{name}\0{files[name].sha256}\n" for name in sorted(files) if name not in BESIDE_THE_CONTENT)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def parse_index(content: bytes, place: str) -> Index:
    """Reads and checks an index.

    Raises:
        CheckpointError: a field does not fit.
    """
    return _parsed(Index, content, place)


def parse_record(content: bytes, place: str) -> VersionRecord:
    """Reads and checks a `zoo.json`.

    Raises:
        CheckpointError: a field does not fit, or the version is not that of the files.
    """
    record = _parsed(VersionRecord, content, place)
    record.check(place)
    return record


def read_record(folder: Path) -> VersionRecord | None:
    """Reads the `zoo.json` of a folder, None if there is none."""
    path = folder / RECORD_NAME
    return parse_record(path.read_bytes(), str(path)) if path.is_file() else None


def _parsed(model: type[_Model], content: bytes, place: str) -> _Model:
    try:
        raw: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"not valid JSON: {error}", place=place) from error
    found = raw.get("format_version") if isinstance(raw, dict) else None
    if isinstance(found, int) and found > RECORD_FORMAT:
        raise CheckpointError(f"format {found} is newer than {RECORD_FORMAT}", place=place, remedy="update peft-eval")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CheckpointError(f"field {field}: {first['msg']}", place=place) from error


def is_tag(tag: str) -> bool:
    """Tells whether a version may be called so: it must not be taken for a version or for `latest`."""
    return bool(TAG.fullmatch(tag)) and not VERSION.fullmatch(tag) and tag != LATEST


def check_name(name: str) -> None:
    """Refuses what is no name.

    Raises:
        ConfigError: it has other signs than letters, digits, `.`, `_` and `-`, or is too long.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for the zoo", remedy="letters, digits, '.', '_' and '-', at most 96: --name NAME"
        )


def check_tag(tag: str) -> None:
    """Refuses what is no tag.

    Raises:
        ConfigError: it looks like a version, or has signs that a tag has not.
    """
    if not is_tag(tag):
        raise ConfigError(f"{tag!r} is no tag", remedy="letters, digits, '.', '_' and '-', and not a version's digits")
