"""Which instances of the mini corpus the suites `mini_unseen` and `mini_memorization` ask."""

from __future__ import annotations

import functools

from peft_eval.data.mini.corpus import DEFAULT_SEED, TRAIN_CATEGORIES, UNSEEN_CATEGORIES, as_superni
from peft_eval.data.superni.task import Instance, Task, held_out_instances

UNSEEN_INSTANCES = 25
HELD_OUT_INSTANCES = 10


@functools.cache
def unseen_questions(category: str, seed: int = DEFAULT_SEED) -> tuple[tuple[Task, Instance], ...]:
    """Returns the first 25 instances of each task of an unseen category, with their tasks."""
    return tuple(
        (task, instance)
        for task in _tasks(category, UNSEEN_CATEGORIES, seed)
        for instance in task.instances[:UNSEEN_INSTANCES]
    )


@functools.cache
def memorization_questions(category: str, seed: int = DEFAULT_SEED) -> tuple[tuple[Task, Instance], ...]:
    """Returns 10 held-out instances of each task of a train category, with their tasks."""
    return tuple(
        (task, instance)
        for task in _tasks(category, TRAIN_CATEGORIES, seed)
        for instance in held_out_instances(task)[:HELD_OUT_INSTANCES]
    )


def _tasks(category: str, categories: tuple, seed: int) -> list[Task]:
    by_name = {known.name: known for known in categories}
    return [as_superni(task, seed) for task in by_name[category].tasks]
