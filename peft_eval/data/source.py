"""The contract of a data source: what `--data NAME[:LOCATION]` gives to training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Example:
    """One training example, already encoded as text.

    Attributes:
        task: name of the task it belongs to.
        category: the task's category.
        instance_id: the instance's id; where a file has none, `<task>#<index in the file>`.
        source: the prompt, verbatim.
        target: the answer that the loss is computed on, verbatim.
    """

    task: str
    category: str
    instance_id: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a source to take, and how to encode it.

    Attributes:
        tasks: how many tasks to take (drawn with `seed`); None takes all.
        instances_per_task: at most so many instances of each task.
        encoding: name of the prompt encoding, e.g. `def` or `def_pos2`.
        seed: seeds the draw of tasks and instances.
    """

    tasks: int | None = None
    instances_per_task: int = 100
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
    """

    source: str
    encoding: str
    examples: list[Example]
    content_sha256: str
    notes: list[str] = field(default_factory=list)


class DataSource(Protocol):
    """A named source of training examples."""

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
