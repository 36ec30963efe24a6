"""The manifest, `peft_eval.json`: where a checkpoint comes from and what its files must be.

It is written last, by renaming a complete file into place, so a folder that has it is whole. A
field that is not known (a checkpoint made elsewhere) is None and shown as "unknown", never guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peft_eval.checkpoint.vetting import read_object
from peft_eval.errors import CheckpointError
from peft_eval.plain_files import shown
from peft_eval.whole_file import write_whole

MANIFEST_NAME = "peft_eval.json"
FORMAT_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class QuantizationRecord(_Part):
    """How the base's linear weights were quantised while the adapter was trained (QLoRA).

    Attributes:
        scheme: bitsandbytes' 4-bit type.
        double: whether the scales were quantised as well.
        dtype: dtype of the weights before, and of the arithmetic after.
        kept_modules: linear layers that were left as they are.
    """

    scheme: Literal["nf4", "fp4"]
    double: bool
    dtype: Literal["float32", "bfloat16", "float16"]
    kept_modules: list[str] = Field(default_factory=list)


class BaseRecord(_Part):
    """The base model that the adapter was trained on.

    `location` is a folder or hub id as given, `weights_sha256` a hash over its weight files
    (see `peft_eval.checkpoint.hashing.weights_sha256`), `quantization` what was done to them before training.
    """

    location: str
    revision: str | None = None
    weights_sha256: str | None = None
    vocab_size: int | None = None
    quantization: QuantizationRecord | None = None


class MethodRecord(_Part):
    """The method by name, with every option as resolved."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    trainable_parameters: int | None = None
    total_parameters: int | None = None


class DataRecord(_Part):
    """What was trained on: `instances` maps each task to the ids of its instances."""

    source: str
    encoding: str
    content_sha256: str
    instances: dict[str, list[str]]
    notes: list[str] = Field(default_factory=list)


class TextRecord(_Part):
    """How text became tokens, so that evaluation does the same.

    Attributes:
        tokenizer_sha256: hash over the tokenizer's files.
        adds_bos: whether a BOS id was put before each prompt.
        adds_eos: whether an EOS id was put after each answer.
        template: `plain`, `tulu` or `tokenizer`, as `--template` chose.
        chat_template_sha256: hash of the chat template (the file chat_template.jinja), None when text is used as it is.
        max_source_tokens, max_target_tokens: length limits of training on plain text.
        max_conversation_tokens: the limit of training with a chat template.
    """

    tokenizer_sha256: str | None = None
    adds_bos: bool | None = None
    adds_eos: bool | None = None
    template: str | None = None
    chat_template_sha256: str | None = None
    max_source_tokens: int | None = None
    max_target_tokens: int | None = None
    max_conversation_tokens: int | None = None


class TrainingRecord(_Part):
    """The run: its resolved specification and what it cost.

    Attributes:
        spec: the training specification as resolved.
        tokens: tokens seen that are not padding.
        losses: pairs of (step, training loss).
    """

    spec: dict[str, Any]
    seed: int
    steps: int
    epochs: float
    tokens: int
    seconds: float
    peak_memory_bytes: int
    truncated_examples: int
    losses: list[tuple[int, float]]


class MergeRecord(_Part):
    """How a whole model was made from a checkpoint by `peft-eval merge`; the base is `Manifest.base`.

    Attributes:
        checkpoint: the checkpoint as it was named.
        checkpoint_sha256: its hash (see `peft_eval.checkpoint.reading.Checkpoint.sha256`).
        dtype: precision that was asked for; `auto` kept each tensor's own.
        proof: what was read back and compared before the folder was called done.
    """

    checkpoint: str
    checkpoint_sha256: str
    dtype: str
    proof: dict[str, Any]


class OverlapRecord(_Part):
    """What of one lm-eval task the training data holds (see `peft_eval.data.overlap`).

    Attributes:
        questions: how many the task has.
        ngram: words of an n-gram.
        threshold: a question overlaps if a larger share of its words lies in n-grams of the training data.
        overlapping: the questions that do, by lm-eval's `doc_hash`.
    """

    questions: int
    ngram: int
    threshold: float
    overlapping: list[str]


class FileRecord(_Part):
    """Size and hash of one file of the checkpoint."""

    bytes: int = Field(ge=0, lt=1 << 63)
    sha256: str


class Manifest(_Part):
    """Everything a checkpoint says of itself."""

    format_version: int = FORMAT_VERSION
    kind: Literal["adapter", "full"]
    created: str
    base: BaseRecord
    method: MethodRecord
    data: DataRecord | None = None
    text: TextRecord = Field(default_factory=TextRecord)
    training: TrainingRecord | None = None
    merged: MergeRecord | None = None
    overlap: dict[str, OverlapRecord] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    files: dict[str, FileRecord] = Field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes the manifest into `folder` in one atomic step."""
        write_whole(folder / MANIFEST_NAME, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Reads a folder's manifest.

        Raises:
            CheckpointError: it is not there, is not valid JSON, has a field that does not fit, or
                was written by a newer format.
        """
        path = folder / MANIFEST_NAME
        if not path.exists():
            raise CheckpointError("there is no manifest", place=str(path))
        raw = read_object(path)
        found = raw.get("format_version")
        if isinstance(found, int) and found > FORMAT_VERSION:
            raise CheckpointError(
                f"manifest format {shown(found)} is newer than {FORMAT_VERSION}",
                place=str(path),
                remedy="update peft-eval",
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            field = shown(".".join(str(part) for part in first["loc"]))[1:-1] or "the whole"
            raise CheckpointError(f"field {field}: {first['msg']}", place=str(path)) from error
