"""Conversations as a source of training examples: `--data messages:FILE_OR_HUB_ID`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from peft_eval.data.messages.reader import read_conversations
from peft_eval.data.source import Example, HeldOut, Selection, TrainingData, examples_sha256
from peft_eval.errors import ConfigError

HELD_OUT_INSTANCES = 100


class MessagesSource:
    """Rows of `messages`; a task is what a row's `dataset` says, else the file.

    All rows are taken unless `tasks` or `instances_per_task` say otherwise; both are drawn with the run's seed, and a
    smaller draw lies within a larger one. What a draw leaves out of a task is held out.
    """

    name = "messages"
    summary = "conversations: a .jsonl, .json or .parquet file of `messages`, or a hub id (TÜLU's format)"

    def load(self, location: str | None, selection: Selection) -> TrainingData:
        """Returns the selected conversations; see `peft_eval.data.source.DataSource.load`."""
        resolved, by_task, order = self._drawn(location, selection)
        chosen = {id(example) for examples in by_task.values() for example in examples[: selection.instances_per_task]}
        examples = [example for example in order if id(example) in chosen]
        left_out = len(order) - len(examples)
        return TrainingData(
            source=f"{self.name}:{resolved}",
            encoding="messages",
            examples=examples,
            content_sha256=examples_sha256(examples),
            notes=[f"{left_out:,} of {len(order):,} conversations were not drawn"] if left_out else [],
            chat=True,
        )

    def held_out(
        self, location: str | None, selection: Selection, trained: Mapping[str, Sequence[str]]
    ) -> list[HeldOut]:
        """Returns up to 100 conversations of each task that the draw left out; none where all were taken."""
        _, by_task, _ = self._drawn(location, selection)
        count = selection.instances_per_task
        return [
            HeldOut(example, (example.target,))
            for task in trained
            for example in (by_task[task][count:] if count is not None else [])[:HELD_OUT_INSTANCES]
        ]

    def _drawn(self, location: str | None, selection: Selection) -> tuple[str, dict[str, list[Example]], list[Example]]:
        """Returns the resolved location, each drawn task's examples shuffled, and all of them in file order."""
        if not location:
            raise ConfigError("no file is named", place="--data messages", remedy="e.g. messages:train.jsonl")
        if selection.instances_per_task is not None and selection.instances_per_task < 1:
            raise ConfigError(f"{selection.instances_per_task} is not a positive number", place="instances_per_task")
        resolved, examples = read_conversations(location)
        names = sorted({example.task for example in examples})
        if selection.tasks is not None:
            if not 1 <= selection.tasks <= len(names):
                raise ConfigError(
                    f"{selection.tasks} tasks asked for, {resolved} has {len(names)}",
                    place="tasks",
                    remedy=f"ask for 1 to {len(names)}",
                )
            random.Random(selection.seed).shuffle(names)
            names = names[: selection.tasks]
        by_task: dict[str, list[Example]] = {name: [] for name in sorted(names)}
        order = [example for example in examples if example.task in by_task]
        for example in order:
            by_task[example.task].append(example)
        for name, shuffled in by_task.items():
            random.Random(f"{selection.seed}/{name}").shuffle(shuffled)
        return resolved, by_task, order
