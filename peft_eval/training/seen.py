"""What a checkpoint was trained on, rebuilt to the token, and what it was not trained on of the same tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_eval import plugins
from peft_eval.checkpoint.manifest import DataRecord, Manifest
from peft_eval.checkpoint.writing import CHAT_TEMPLATE
from peft_eval.data.source import Example, HeldOut, Selection
from peft_eval.errors import CheckpointError, ConfigError, DataError
from peft_eval.training.templates import Template
from peft_eval.training.tokens import Limits, tokens_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which data to rebuild, and how they became tokens.

    Attributes:
        source: name of the data source.
        location: what follows the name, or None.
        selection: which part of it.
        template: how turns became text.
        limits: the length limits.
        encoder_decoder: whether the base is one, so that prompt and answer go different ways.
        recorded: what the manifest says of the data; None where there is none to check against.
    """

    source: str
    location: str | None
    selection: Selection
    template: Template
    limits: Limits
    encoder_decoder: bool
    recorded: DataRecord | None


@dataclass(frozen=True, slots=True)
class SeenInstance:
    """An instance of a task that was trained on.

    Attributes:
        example: the instance.
        trained: whether it was trained on itself.
        references: the answers that count as right; of a trained one, the answer it was trained on.
        prompt_ids, answer_ids: the last answer and all that comes before it, as training has them.
    """

    example: Example
    trained: bool
    references: tuple[str, ...]
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


def recipe_of(
    manifest: Manifest, folder: Path, *, encoder_decoder: bool = False, moved_to: str | None = None
) -> Recipe:
    """Returns how a checkpoint's training data are rebuilt.

    Args:
        manifest: the checkpoint's.
        folder: the checkpoint's folder, for its chat template.
        encoder_decoder: whether its base is one.
        moved_to: where the data are now (`NAME:LOCATION`), if not where they were.

    Raises:
        CheckpointError: the manifest does not say what was trained on, or the chat template is not the one it names.
        ConfigError: `moved_to` names another source.
    """
    data, text, run = manifest.data, manifest.text, manifest.training
    if data is None or run is None:
        raise CheckpointError("the manifest does not say what it was trained on", place=str(folder))
    name, _, location = data.source.partition(":")
    if moved_to:
        other, _, location = moved_to.partition(":")
        if other != name:
            raise ConfigError(
                f"{moved_to!r} is no {name} data, which the checkpoint was trained on", place="--metadata train_data"
            )
    spec = run.spec
    return Recipe(
        source=name,
        location=location or None,
        selection=Selection(
            tasks=spec.get("tasks"),
            instances_per_task=spec.get("instances_per_task"),
            encoding=str(spec.get("encoding", "def")),
            seed=int(spec.get("data_seed", 42)),
        ),
        template=_template_of(manifest, folder),
        limits=Limits(
            text.max_source_tokens or int(spec["max_source_tokens"]),
            text.max_target_tokens or int(spec["max_target_tokens"]),
            text.max_conversation_tokens or int(spec.get("max_conversation_tokens", 0)),
        ),
        encoder_decoder=encoder_decoder,
        recorded=data,
    )


def _template_of(manifest: Manifest, folder: Path) -> Template:
    expected = manifest.text.chat_template_sha256
    if expected is None:
        return Template("plain", None)
    path = folder / CHAT_TEMPLATE
    template = Template(manifest.text.template or "tokenizer", path.read_text("utf-8") if path.is_file() else "")
    if template.sha256 != expected:
        raise CheckpointError(
            "is not the chat template that the manifest names", place=str(path), remedy="fetch or train it again"
        )
    return template


def seen_instances(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> list[SeenInstance]:
    """Returns the trained instances, then the held-out ones of the same tasks.

    No instance is in both: neither by its id nor by the text of its prompt.

    Raises:
        ConfigError: the source does not exist or holds nothing out.
        DataError: the data are missing, broken, or not those that were trained on.
    """
    source = plugins.pick("data source", recipe.source, plugins.datasets(), place="train_data")
    data = source.load(recipe.location, recipe.selection)
    _check_same(recipe, data.source, data.content_sha256)
    trained: Sequence[Example] = data.examples
    if recipe.recorded is not None:  # conversations without an answer within the limit were left out
        ids = {task: set(names) for task, names in recipe.recorded.instances.items()}
        trained = [example for example in trained if example.instance_id in ids.get(example.task, ())]
    by_task: dict[str, list[str]] = {}
    for example in trained:
        by_task.setdefault(example.task, []).append(example.instance_id)
    held_out = _held_out(source, recipe, by_task, {(example.task, _question(example)) for example in trained})
    return [
        *_instances(((example, (example.target,)) for example in trained), True, recipe, tokenizer),
        *_instances(((item.example, item.references) for item in held_out), False, recipe, tokenizer),
    ]


def _check_same(recipe: Recipe, place: str, content_sha256: str) -> None:
    expected = recipe.recorded.content_sha256 if recipe.recorded else content_sha256
    if content_sha256 != expected:
        raise DataError(
            f"these are not the data that the checkpoint was trained on: content {content_sha256[:12]}, "
            f"the manifest says {expected[:12]}",
            place=place,
            remedy=f"name the right ones: --metadata train_data={recipe.source}:LOCATION",
        )


def _held_out(source: Any, recipe: Recipe, trained: Mapping[str, Sequence[str]], asked: set[Any]) -> list[HeldOut]:
    if not hasattr(source, "held_out"):
        raise ConfigError(
            f"data source {recipe.source!r} holds no instances out to compare with",
            place="--tasks memorization",
            remedy="give it a method held_out, see peft_eval.data.source.HoldsOut",
        )
    found = source.held_out(recipe.location, recipe.selection, trained)
    return [item for item in found if (item.example.task, _question(item.example)) not in asked]


def _question(example: Example) -> tuple[Any, ...]:
    """Returns the turns before the last answer: two instances of one prompt would blur what was trained on."""
    last = max(index for index, message in enumerate(example.messages) if message.role == "assistant")
    return example.messages[:last]


def _instances(pairs: Any, trained: bool, recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> list[SeenInstance]:
    given = list(pairs)
    if not given:
        return []
    tokens = tokens_of(
        [example for example, _ in given],
        tokenizer,
        recipe.template,
        recipe.limits,
        encoder_decoder=recipe.encoder_decoder,
    )
    empty = set(tokens.nothing_learnt)
    found = []
    for index, ((example, references), row) in enumerate(zip(given, tokens.rows, strict=True)):
        if index not in empty:
            prompt, answer = row.last_answer()
            found.append(SeenInstance(example, trained, references, tuple(prompt), tuple(answer)))
    return found
