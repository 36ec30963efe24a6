"""From the metadata of a run to what its checkpoint was trained on; the memorization suite's way to its instances.

| metadata | the instances are |
|---|---|
| `peft=CHECKPOINT` | those the checkpoint was trained on, by its manifest |
| `memorization_of=CHECKPOINT` | another checkpoint's, e.g. to score the base on them |
| `train_data=NAME:LOCATION` | these; beside a manifest: where its data are now |

Without a manifest `train_tasks`, `train_instances_per_task`, `train_encoding`, `train_data_seed` and `train_template`
say the rest, each with the default of `peft-eval train`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.hashing import tokenizer_sha256
from peft_eval.checkpoint.location import resolve_folder
from peft_eval.checkpoint.reading import Checkpoint, open_checkpoint, read_json
from peft_eval.data.source import Selection
from peft_eval.errors import CheckpointError, ConfigError
from peft_eval.harness.task_tokenizer import task_tokenizer
from peft_eval.training.seen import Recipe, SeenInstance, recipe_of, seen_instances
from peft_eval.training.spec import TrainSpec
from peft_eval.training.templates import TEMPLATES, choose_template
from peft_eval.training.tokens import Limits

_READ = (
    "peft", "pretrained", "revision", "tokenizer", "memorization_of", "train_data", "train_tasks",
    "train_instances_per_task", "train_encoding", "train_data_seed", "train_template",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SeenData:
    """What the tasks of the suite share.

    Attributes:
        of: whose training data they are.
        instances: trained and held-out ones.
        tokenizer: of the model that is asked.
        answer_tokens: the length limit of a plain answer.
        whole_tokens: the length limit of prompt and answer together.
    """

    of: str
    instances: tuple[SeenInstance, ...]
    tokenizer: Any
    answer_tokens: int
    whole_tokens: int


def seen_data(metadata: Mapping[str, Any]) -> SeenData:
    """Returns the instances for a run with these metadata, read once per process.

    Raises:
        PeftEvalError: it is not said whose training data, the checkpoint has no manifest, or the data are not there or
            not those that were trained on.
    """
    return _seen_data(tuple((key, str(metadata[key])) for key in _READ if metadata.get(key) not in (None, "")))


@functools.lru_cache(maxsize=2)
def _seen_data(named: tuple[tuple[str, str], ...]) -> SeenData:
    given = dict(named)
    reference = given.get("memorization_of") or given.get("peft")
    checkpoint = open_checkpoint(reference) if reference else None
    if checkpoint is None and "train_data" not in given:
        raise ConfigError(
            "it is not said what was trained on",
            place="--tasks memorization",
            remedy="evaluate a checkpoint (--model_args peft=...), or for its base "
            "--metadata memorization_of=CHECKPOINT, or name the data: --metadata train_data=NAME:LOCATION",
        )
    tokenizer = task_tokenizer(given | ({"peft": reference} if reference else {}))
    if tokenizer is None:
        raise ConfigError(
            "it is not said which model is asked", place="--model_args", remedy="give peft= or pretrained="
        )
    if checkpoint is not None and checkpoint.manifest is not None and checkpoint.manifest.data is not None:
        if "memorization_of" in given:
            _check_tokenizer(given, checkpoint)
        recipe = recipe_of(
            checkpoint.manifest,
            checkpoint.folder,
            encoder_decoder=_is_encoder_decoder(checkpoint, given),
            moved_to=given.get("train_data"),
        )
    elif "train_data" in given:
        recipe = _recipe_without_manifest(given, tokenizer, _is_encoder_decoder(checkpoint, given))
    else:
        raise CheckpointError(
            "it has no manifest that says what it was trained on",
            place=str(reference),
            remedy="name the data: --metadata train_data=NAME:LOCATION",
        )
    of = str(reference) if reference else given["train_data"]
    limits = recipe.limits
    whole = limits.source + limits.target if recipe.template.text is None else limits.conversation
    return SeenData(of, tuple(seen_instances(recipe, tokenizer)), tokenizer, limits.target, whole)


def _recipe_without_manifest(given: Mapping[str, str], tokenizer: Any, encoder_decoder: bool) -> Recipe:
    name, _, location = given["train_data"].partition(":")
    template = given.get("train_template", "auto")
    if template not in TEMPLATES:
        raise ConfigError(f"{template!r} is none of {', '.join(TEMPLATES)}", place="--metadata train_template")
    default = {key: field.default for key, field in TrainSpec.model_fields.items()}
    return Recipe(
        source=name,
        location=location or None,
        selection=Selection(
            tasks=_number(given, "train_tasks"),
            instances_per_task=_number(given, "train_instances_per_task"),
            encoding=given.get("train_encoding", default["encoding"]),
            seed=_number(given, "train_data_seed") or default["data_seed"],
        ),
        template=choose_template(template, tokenizer, chat=name == "messages"),
        limits=Limits(default["max_source_tokens"], default["max_target_tokens"], default["max_conversation_tokens"]),
        encoder_decoder=encoder_decoder,
        recorded=None,
    )


def _is_encoder_decoder(checkpoint: Checkpoint | None, given: Mapping[str, str]) -> bool:
    if checkpoint is not None and checkpoint.kind == "adapter":
        return checkpoint.adapter_config.get("task_type") == "SEQ_2_SEQ_LM"
    folder = checkpoint.folder if checkpoint is not None else resolve_folder(given["pretrained"])
    return bool(read_json(folder / "config.json").get("is_encoder_decoder"))


def _number(given: Mapping[str, str], key: str) -> int | None:
    if key not in given:
        return None
    if not given[key].isdecimal():
        raise ConfigError(f"{given[key]!r} is no number", place=f"--metadata {key}")
    return int(given[key])


def _check_tokenizer(given: Mapping[str, str], checkpoint: Checkpoint) -> None:
    """Refuses to ask a model with another tokenizer, to which the token ids would mean something else.

    Raises:
        ConfigError: the tokenizers are known and differ.
    """
    manifest = checkpoint.manifest
    asked = given.get("peft") or given.get("pretrained")
    if asked is None or manifest is None:
        return
    folder: Path = resolve_folder(asked)
    found = tokenizer_sha256(folder)
    expected = manifest.text.tokenizer_sha256
    if found and expected and found != expected:
        raise ConfigError(
            f"{asked} and {checkpoint.reference} have different tokenizers",
            place="--metadata memorization_of",
            remedy="ask a model with the tokenizer that was trained with",
        )
