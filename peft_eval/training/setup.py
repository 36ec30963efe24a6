"""Everything a run needs before the first step: data, base, tokens and the plan of batches.

Reads files and checks them; needs no weights in memory, so that `--dry-run` can stop here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from peft_eval import plugins
from peft_eval.checkpoint.hashing import weights_sha256
from peft_eval.checkpoint.manifest import OverlapRecord, QuantizationRecord
from peft_eval.data.source import Selection, TrainingData
from peft_eval.errors import ConfigError, DataError
from peft_eval.training.base import Base, find_base, load_tokenizer
from peft_eval.training.spec import TrainSpec
from peft_eval.training.templates import PLAIN, Template, choose_template
from peft_eval.training.tokens import Limits, TokenData, tokens_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from peft_eval.training.batches import Plan


@dataclass(frozen=True)
class Setup:
    """A run, ready but for the weights.

    Attributes:
        spec: the settings as resolved; the prompt length is fitted to the base's context.
        data: the examples as text.
        base: the base's files.
        tokenizer: the base's tokenizer.
        tokens: the examples as token ids.
        template: how turns became text.
        notes: what the user should know.
        quantization: how the base was quantised; known once it is loaded.
        overlap: which questions of suites the data holds, by task; empty if nobody asked.
    """

    spec: TrainSpec
    data: TrainingData
    base: Base
    tokenizer: PreTrainedTokenizerBase
    tokens: TokenData
    template: Template
    notes: list[str]
    quantization: QuantizationRecord | None = None
    overlap: dict[str, OverlapRecord] = field(default_factory=dict)

    def plan(self, processes: int = 1) -> Plan:
        """Returns the run's batches for a number of processes."""
        from peft_eval.training.batches import Plan

        return Plan(
            [len(row) for row in self.tokens.rows],
            batch_size=self.spec.batch_size,
            micro_batches=self.spec.micro_batches,
            epochs=self.spec.epochs,
            max_steps=self.spec.max_steps,
            seed=self.spec.seed,
            processes=processes,
        )

    def identity(self, processes: int) -> dict[str, Any]:
        """Returns what the trained weights depend on; a run may be continued only by its equal."""
        return {
            **self.spec.decisive(),
            "base weights": weights_sha256(self.base.folder),
            "data content": self.data.content_sha256,
            "chat template": self.template.sha256,
            "processes": processes,
        }


def set_up(spec: TrainSpec) -> Setup:
    """Loads the data, finds the base and tokenises.

    Raises:
        PeftEvalError: data, base or settings are missing or do not fit each other.
    """
    source_name, _, location = spec.data.partition(":")
    source = plugins.pick("data source", source_name, plugins.datasets(), place="--data")
    base = find_base(spec)
    data = source.load(
        location or None,
        Selection(
            tasks=spec.tasks,
            instances_per_task=spec.instances_per_task,
            encoding=spec.encoding,
            seed=spec.data_seed,
        ),
    )
    tokenizer = load_tokenizer(base)
    template = choose_template(spec.template, tokenizer, chat=data.chat)
    spec, notes = fit_context(spec, base, template)
    if data.chat and spec.template == "auto":
        notes.append(f"template {template.name}: " + _REASONS[template.name])
    if base.is_encoder_decoder:
        _check_encoder_decoder(spec, template)
    tokens = tokens_of(data.examples, tokenizer, template, limits_of(spec), encoder_decoder=base.is_encoder_decoder)
    if tokens.truncated_examples:
        notes.append(_cut(spec, tokens, template))
    if empty := set(tokens.nothing_learnt):
        notes.append(f"{len(empty):,} of {len(tokens.rows):,} examples have no answer within the limit: left out")
        data, tokens = _without(empty, data, tokens)
    return Setup(spec, data, base, tokenizer, tokens, template, [*data.notes, *notes])


_REASONS = {"tulu": "the base has no chat template of its own", "tokenizer": "the base's own chat template"}


def _check_encoder_decoder(spec: TrainSpec, template: Template) -> None:
    if spec.packing:
        raise ConfigError("an encoder-decoder base cannot be trained packed", place="--packing", remedy="leave it out")
    if template != PLAIN:
        raise ConfigError(
            "an encoder-decoder base reads one prompt and writes one answer, not a conversation",
            place="--template",
            remedy="use --template plain with data of single turns",
        )


def limits_of(spec: TrainSpec) -> Limits:
    """Returns a specification's length limits."""
    return Limits(spec.max_source_tokens, spec.max_target_tokens, spec.max_conversation_tokens)


def _cut(spec: TrainSpec, tokens: TokenData, template: Template) -> str:
    cut = f"{tokens.truncated_examples:,} of {len(tokens.rows):,} examples were cut"
    if template != PLAIN:
        return f"{cut} at {spec.max_conversation_tokens} tokens"
    return (
        f"{cut}: {tokens.truncated_sources:,} prompts at {spec.max_source_tokens} tokens, "
        f"{tokens.truncated_targets:,} answers at {spec.max_target_tokens}"
    )


def _without(empty: set[int], data: TrainingData, tokens: TokenData) -> tuple[TrainingData, TokenData]:
    """Returns data and tokens without the examples that teach nothing.

    Raises:
        DataError: nothing is left.
    """
    if len(empty) == len(tokens.rows):
        raise DataError("no example has an answer within the limit", remedy="raise --max-conversation-tokens")
    kept = [index for index in range(len(tokens.rows)) if index not in empty]
    return (
        replace(data, examples=[data.examples[index] for index in kept]),
        replace(tokens, rows=[tokens.rows[index] for index in kept], nothing_learnt=[]),
    )


def fit_context(spec: TrainSpec, base: Base, template: Template = PLAIN) -> tuple[TrainSpec, list[str]]:
    """Shortens prompts so that prompt and answer, or a whole conversation, fit the base's context.

    Evaluation has the same room: the context less the answer's length.

    Raises:
        ConfigError: the answer alone fills the context.
    """
    if template != PLAIN:
        if base.context is None or spec.max_conversation_tokens <= base.context:
            return spec, []
        note = f"max_conversation_tokens is {base.context}, the base's context, not {spec.max_conversation_tokens}"
        return spec.model_copy(update={"max_conversation_tokens": base.context}), [note]
    if base.context is None or spec.max_source_tokens + spec.max_target_tokens <= base.context:
        return spec, []
    room = base.context - spec.max_target_tokens
    if room < 1:
        raise ConfigError(
            f"{spec.max_target_tokens} leaves no room for a prompt in the base's context of {base.context} tokens",
            place="--max-target-tokens",
            remedy=f"use less than {base.context}",
        )
    note = (
        f"max_source_tokens is {room}, not {spec.max_source_tokens}: "
        f"the base's context is {base.context} and {spec.max_target_tokens} are the answer's"
    )
    return spec.model_copy(update={"max_source_tokens": room}), [note]


def describe(setup: Setup) -> str:
    """Returns the resolved settings as TOML and what the data holds, for `--dry-run`."""
    plan = setup.plan()
    tokens = sum(len(row) for row in setup.tokens.rows)
    answers = sum(row.target_tokens for row in setup.tokens.rows)
    categories = {example.category for example in setup.data.examples}
    bos = "added" if setup.tokens.adds_bos else "not added"
    lines = [f"{key} = {_toml(value)}" for key, value in setup.spec.flat().items() if value is not None]
    lines += [
        "",
        f"# data: {setup.data.source}, {len({example.task for example in setup.data.examples})} tasks in "
        f"{len(categories)} categories, {len(setup.data.examples):,} examples",
        f"# tokens: {tokens:,}, of which {answers:,} in answers; BOS {bos}; template {setup.template.name}",
        f"# steps: {plan.steps:,}, {plan.epochs_after(plan.steps):.3g} epochs of {plan.steps_per_epoch:,} steps",
        *(f"# note: {note}" for note in setup.notes),
    ]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(str(key))} = {_toml(item)}' for key, item in value.items())}}}"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
