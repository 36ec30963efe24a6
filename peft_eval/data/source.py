"""The contract of a data source: what `--data NAME[:LOCATION]` gives to training."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from peft_eval.errors import ConfigError


class Message(NamedTuple):
    """One turn: `role` is system, user or assistant; `content` is its text, verbatim."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: a conversation, of which the assistant's turns are what is learnt.

    A prompt with its answer is a conversation of two turns; `Example.pair` makes one.

    Attributes:
        task: name of the task it belongs to.
        category: the task's category.
        instance_id: the instance's id; where a file has none, `<task>#<index in the file>`.
        messages: the turns.
    """

    task: str
    category: str
    instance_id: str
    messages: tuple[Message, ...]

    @classmethod
    def pair(cls, task: str, category: str, instance_id: str, source: str, target: str) -> Example:
        """Returns an example of one prompt and the answer that the loss is computed on."""
        return cls(task, category, instance_id, (Message("user", source), Message("assistant", target)))

    @property
    def is_pair(self) -> bool:
        """Whether it is one prompt and one answer."""
        return [message.role for message in self.messages] == ["user", "assistant"]

    @property
    def source(self) -> str:
        """The prompt of a pair, verbatim; of a conversation, its first turn."""
        return self.messages[0].content

    @property
    def target(self) -> str:
        """The answer of a pair, verbatim; of a conversation, its last turn."""
        return self.messages[-1].content

    @property
    def place(self) -> str:
        """Where it is, for an error."""
        return f"{self.task}, instance {self.instance_id}"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """An example that was not trained on, of a task that was.

    Attributes:
        example: as training would have encoded it.
        references: every answer that counts as right.
    """

    example: Example
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a source to take, and how to encode it.

    Attributes:
        tasks: how many tasks to take (drawn with `seed`); None takes all.
        instances_per_task: at most so many instances of each task; None leaves it to the source.
        encoding: name of the prompt encoding, e.g. `def` or `def_pos2`.
        seed: seeds the draw of tasks and instances.
    """

    tasks: int | None = None
    instances_per_task: int | None = None
    encoding: str = "def"
    seed: int = 42


@dataclass(slots=True)
class TrainingData:
    """Examples with all that the manifest says of their origin.

    Attributes:
        source: `NAME:LOCATION` as resolved.
        encoding: the prompt encoding used.
        examples: the examples, in order.
        content_sha256: hash over every example's fields, in order.
        notes: what a reader should know (e.g. "12 tasks have fewer than 100 instances").
        chat: whether the examples are conversations, which a chat template turns into text.
    """

    source: str
    encoding: str
    examples: list[Example]
    content_sha256: str
    notes: list[str] = field(default_factory=list)
    chat: bool = False


class DataSource(Protocol):
    """A named source of training examples.

    A source may also have `held_out`, as `HoldsOut` says; the memorization suites need it.
    """

    name: str
    summary: str

    def load(self, location: str | None, selection: Selection) -> TrainingData:
        """Returns the selected examples.

        Args:
            location: what follows `NAME:` on the command line, or None.
            selection: which tasks and instances, and the encoding.

        Raises:
            DataError: files are missing or broken; every broken file is named.
            ConfigError: the encoding or location does not exist.
        """
        ...


class HoldsOut(Protocol):
    """What a source does besides, so that memorization can be measured on it."""

    def held_out(
        self, location: str | None, selection: Selection, trained: Mapping[str, Sequence[str]]
    ) -> list[HeldOut]:
        """Returns examples of the trained tasks that this selection never trains on.

        Args:
            location: what follows `NAME:`, or None.
            selection: as given to `load`.
            trained: the ids of the instances trained on, by task.

        Raises:
            DataError, ConfigError: as `load`.
        """
        ...


def draw_tasks(names: Sequence[str], selection: Selection, place: str) -> list[str]:
    """Returns the tasks that a selection takes, so that a smaller draw lies within a larger one.

    They are the first of the names as the selection's seed shuffles them.

    Args:
        names: all tasks, sorted.
        selection: how many, and the seed.
        place: what has these tasks.

    Raises:
        ConfigError: there are not so many.
    """
    if selection.tasks is None:
        return list(names)
    if not 1 <= selection.tasks <= len(names):
        raise ConfigError(
            f"{selection.tasks} tasks asked for, {place} has {len(names)} training tasks",
            place="tasks",
            remedy=f"ask for 1 to {len(names)}",
        )
    shuffled = list(names)
    random.Random(selection.seed).shuffle(shuffled)
    return sorted(shuffled[: selection.tasks])


def examples_sha256(examples: Iterable[Example]) -> str:
    """Returns a hash over every example's fields, in order."""
    digest = hashlib.sha256()
    for example in examples:
        said = [example.source, example.target] if example.is_pair else [example.messages]
        fields = (example.task, example.category, example.instance_id, *said)
        digest.update(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
