"""A Super-NaturalInstructions task as typed data, and the rules that say which instances are used for what."""

from __future__ import annotations

import random
from dataclasses import dataclass

from peft_eval.data.encoding import Demonstration

EVALUATION_INSTANCES = 100
TRAINING_INSTANCES = 100

# The shuffle that divides a seen task into training and held-out instances is fixed, whatever the run's seed:
# a memorization suite must find the same division that training used (PROTOCOLS A3).
_DIVISION_SEED = 42
_DIVIDED = 200


@dataclass(frozen=True, slots=True)
class Instance:
    """One question of a task.

    Attributes:
        id: the file's id, or `<task>#<index in the file>` where it has none.
        input: the question, verbatim.
        outputs: its references, verbatim; at least one.
    """

    id: str
    input: str
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One task file.

    Attributes:
        name: the file's name without `.json`, as the split lists write it.
        category: the first of its categories.
        definition: the task in words.
        positive, negative: worked examples, right and wrong.
        instances: in file order; possibly only the first ones, as asked of the reader.
    """

    name: str
    category: str
    definition: str
    positive: tuple[Demonstration, ...]
    negative: tuple[Demonstration, ...]
    instances: tuple[Instance, ...]


def evaluation_instances(task: Task) -> tuple[Instance, ...]:
    """Returns the instances that an unseen task is tested on: the first 100, in file order.

    Source: allenai/natural-instructions, splits/README.md (they are label-balanced there).
    """
    return task.instances[:EVALUATION_INSTANCES]


def training_instances(task: Task, count: int = TRAINING_INSTANCES) -> tuple[Instance, ...]:
    """Returns the instances that a seen task is trained on.

    Source: hepengfe/parameter_efficient_instruction_tuning, util/ni_dataset.py: the first 200 instances are shuffled
    with a fixed seed and 100 of them are trained on; of a task with fewer than 200, the first 100 in file order.
    A `count` above 100 goes on with the instances after the 200th, which is our extension: what
    `held_out_instances` returns is never trained on.

    Args:
        task: the task, read with at least `instances_to_read(count)` instances.
        count: at most so many.
    """
    if len(task.instances) < _DIVIDED:
        return task.instances[:TRAINING_INSTANCES][:count]
    chosen = tuple(task.instances[index] for index in _division()[:TRAINING_INSTANCES])
    return (chosen + task.instances[_DIVIDED:])[:count]


def held_out_instances(task: Task) -> tuple[Instance, ...]:
    """Returns a seen task's instances that are never trained on: 100, fewer or none in a small task.

    Source: as `training_instances`; the author calls them `traditional_test`.
    """
    if len(task.instances) < _DIVIDED:
        return task.instances[TRAINING_INSTANCES:]
    return tuple(task.instances[index] for index in _division()[TRAINING_INSTANCES:])


def instances_to_read(training_count: int = TRAINING_INSTANCES) -> int:
    """Returns how many leading instances of a file the rules look at."""
    return _DIVIDED + max(0, training_count - TRAINING_INSTANCES)


def _division() -> list[int]:
    indices = list(range(_DIVIDED))
    random.Random(_DIVISION_SEED).shuffle(indices)
    return indices
