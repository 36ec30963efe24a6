"""The mini corpus: its tasks, their split, and their instances for a seed.

All randomness comes from `random.Random` seeded with text, so that the same seed gives the same
corpus in every process and on every Python.
"""

from __future__ import annotations

from random import Random
from typing import Any

from peft_eval.data.encoding import Demonstration
from peft_eval.data.mini import (
    arithmetic,
    classification,
    comparison,
    counting,
    dates,
    extraction,
    lists,
    rewriting,
    sentences,
    sequences,
    sorting,
    string_edits,
    tables,
)
from peft_eval.data.mini.task import Category, MiniTask
from peft_eval.data.superni.task import Instance, Task

TRAIN_CATEGORIES: tuple[Category, ...] = tuple(
    module.CATEGORY
    for module in (
        arithmetic,
        sorting,
        string_edits,
        extraction,
        classification,
        dates,
        counting,
        lists,
        sentences,
    )
)
UNSEEN_CATEGORIES: tuple[Category, ...] = tuple(
    module.CATEGORY for module in (rewriting, comparison, tables, sequences)
)
DEFAULT_SEED = 0
INSTANCES = 200
POSITIVE_EXAMPLES = 2
_PATIENCE = 2_000  # so many repeats in a row, and a task has no more distinct inputs to offer


def train_tasks() -> list[MiniTask]:
    """Returns the tasks that models may be trained on."""
    return [task for category in TRAIN_CATEGORIES for task in category.tasks]


def unseen_tasks() -> list[MiniTask]:
    """Returns the tasks of the categories kept for evaluation."""
    return [task for category in UNSEEN_CATEGORIES for task in category.tasks]


def task_file(task: MiniTask, seed: int = DEFAULT_SEED, instances: int = INSTANCES) -> dict[str, Any]:
    """Returns a task in the JSON schema of Super-NaturalInstructions.

    Args:
        task: the task.
        seed: seeds the wording of the definition, the examples and the instances.
        instances: at most so many; a task with few possible inputs has fewer, but never less than 200. A larger
            number continues the same sequence.
    """
    pairs = _distinct_pairs(task, seed, POSITIVE_EXAMPLES + instances)
    # The second example has another answer than the first where there is one, so that no label looks like the rule.
    second = next((i for i, pair in enumerate(pairs) if pair[1] != pairs[0][1]), 1)
    positive = [pairs[0], pairs.pop(second)]
    rest = pairs[1:]
    wrong = [(given, answer, positive[0][1]) for given, answer in rest if answer != positive[0][1]][:1]
    return {
        "Contributors": ["peft-eval"],
        "Source": ["made by program"],
        "Categories": [task.category],
        "Definition": [Random(f"mini/{seed}/{task.name}/definition").choice(task.definitions)],
        "Input_language": ["English"],
        "Output_language": ["English"],
        "Positive Examples": [
            {"input": given, "output": answer, "explanation": f"By the definition the output is {answer}."}
            for given, answer in positive
        ],
        "Negative Examples": [
            {"input": given, "output": bad, "explanation": f"The right output is {answer}."}
            for given, answer, bad in wrong
        ],
        "Instances": [
            {"id": f"{task.name}-{number}", "input": given, "output": [answer]}
            for number, (given, answer) in enumerate(rest)
        ],
    }


def _distinct_pairs(task: MiniTask, seed: int, count: int) -> list[tuple[str, str]]:
    rng = Random(f"mini/{seed}/{task.name}")
    made: dict[str, str] = {}
    repeats = 0
    while len(made) < count and repeats < _PATIENCE:
        given, answer = task.make(rng)
        repeats = repeats + 1 if given in made else 0
        made.setdefault(given, answer)
    return list(made.items())


def as_superni(task: MiniTask, seed: int = DEFAULT_SEED, instances: int = INSTANCES) -> Task:
    """Returns a task as the Super-NaturalInstructions reader would give it from its file."""
    fields = task_file(task, seed, instances)
    return Task(
        name=task.name,
        category=task.category,
        definition=fields["Definition"][0],
        positive=_demonstrations(fields["Positive Examples"]),
        negative=_demonstrations(fields["Negative Examples"]),
        instances=tuple(Instance(item["id"], item["input"], tuple(item["output"])) for item in fields["Instances"]),
    )


def _demonstrations(items: list[dict[str, str]]) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(item["input"], item["output"], item["explanation"]) for item in items)
