"""Everything a run needs before the first step: data, base, tokens and the plan of batches.

Reads files and checks them; needs no weights in memory, so that `--dry-run` can stop here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_eval import plugins
from peft_eval.checkpoint.hashing import weights_sha256
from peft_eval.data.source import Selection, TrainingData
from peft_eval.errors import ConfigError
from peft_eval.training.base import Base, find_base, load_tokenizer
from peft_eval.training.spec import TrainSpec
from peft_eval.training.tokens import TokenData, tokenise

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
        notes: what the user should know.
    """

    spec: TrainSpec
    data: TrainingData
    base: Base
    tokenizer: PreTrainedTokenizerBase
    tokens: TokenData
    notes: list[str]

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
    spec, notes = fit_context(spec, base)
    tokenizer = load_tokenizer(base)
    tokens = tokenise(
        data.examples,
        tokenizer,
        max_source_tokens=spec.max_source_tokens,
        max_target_tokens=spec.max_target_tokens,
    )
    if tokens.truncated_examples:
        notes.append(
            f"{tokens.truncated_examples:,} of {len(tokens.rows):,} examples were cut: "
            f"{tokens.truncated_sources:,} prompts at {spec.max_source_tokens} tokens, "
            f"{tokens.truncated_targets:,} answers at {spec.max_target_tokens}"
        )
    return Setup(spec, data, base, tokenizer, tokens, [*data.notes, *notes])


def fit_context(spec: TrainSpec, base: Base) -> tuple[TrainSpec, list[str]]:
    """Shortens prompts so that prompt and answer fit the base's context together.

    Evaluation has the same room: the context less the answer's length.

    Raises:
        ConfigError: the answer alone fills the context.
    """
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
        f"# tokens: {tokens:,}, of which {answers:,} in answers; BOS {bos}",
        f"# steps: {plan.steps:,}, {plan.epochs_after(plan.steps):.3g} epochs of {plan.steps_per_epoch:,} steps",
        *(f"# note: {note}" for note in setup.notes),
    ]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return repr(value)
