"""Super-NaturalInstructions as a source of training examples: `--data superni[:DIR]`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from peft_eval.data.encoding import Encoding, encode_source, encoding_named
from peft_eval.data.location import data_folder
from peft_eval.data.source import Example, HeldOut, Selection, TrainingData, draw_tasks, examples_sha256
from peft_eval.data.superni.reader import read_tasks, split_list, task_file
from peft_eval.data.superni.task import (
    TRAINING_INSTANCES,
    Instance,
    Task,
    held_out_instances,
    instances_to_read,
    training_instances,
)
from peft_eval.data.superni.tracks import official_test_tasks
from peft_eval.errors import ConfigError, DataError


class SuperNISource:
    """The training tasks of the English track, from a folder in the official layout.

    The draw of N tasks shuffles the sorted names with the run's seed and takes the first N, so a smaller draw lies
    within a larger one. Of each task the instances are those of `training_instances`, the same for every seed.
    """

    name = "superni"
    summary = "Super-NaturalInstructions training tasks, from a folder with tasks/ and splits/"

    def load(self, location: str | None, selection: Selection) -> TrainingData:
        """Returns the selected examples; see `peft_eval.data.source.DataSource.load`."""
        encoding = encoding_named(selection.encoding, place="encoding")
        count = instances_asked_for(selection)
        folder = data_folder("superni", location)
        names, notes = _training_names(folder)
        tasks = read_tasks(folder, draw_tasks(names, selection, str(folder)), instances=instances_to_read(count))
        examples = [
            _example(task, instance, encoding, selection.seed)
            for task in tasks
            for instance in training_instances(task, count)
        ]
        small = sum(len(training_instances(task, count)) < count for task in tasks)
        if small:
            notes.append(f"{small} of {len(tasks)} tasks have fewer than {count} instances")
        return TrainingData(
            source=f"{self.name}:{folder}",
            encoding=encoding.name,
            examples=examples,
            content_sha256=examples_sha256(examples),
            notes=notes,
        )

    def held_out(
        self, location: str | None, selection: Selection, trained: Mapping[str, Sequence[str]]
    ) -> list[HeldOut]:
        """Returns the `held_out_instances` of the trained tasks; see `peft_eval.data.source.HoldsOut`."""
        encoding = encoding_named(selection.encoding, place="encoding")
        tasks = read_tasks(data_folder("superni", location), trained, instances=instances_to_read())
        return [
            HeldOut(_example(task, instance, encoding, selection.seed), instance.outputs)
            for task in tasks
            for instance in held_out_instances(task)
            if instance.id not in set(trained[task.name])
        ]


def instances_asked_for(selection: Selection) -> int:
    """Returns how many instances of each task to take: the 100 of the published protocols unless told otherwise.

    Raises:
        ConfigError: the number is not positive.
    """
    if selection.instances_per_task is None:
        return TRAINING_INSTANCES
    if selection.instances_per_task < 1:
        raise ConfigError(f"{selection.instances_per_task} is not a positive number", place="instances_per_task")
    return selection.instances_per_task


def _training_names(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the sorted training tasks that have a file, and notes on those that have none."""
    place = str(folder / "splits" / "default" / "train_tasks.txt")
    listed = sorted(split_list(folder, "default", "train"))
    unseen = {name for names in official_test_tasks("default").values() for name in names}
    leaked = [name for name in listed if name in unseen]
    if leaked:
        raise DataError(
            f"the training list has {len(leaked)} of the official test tasks, e.g. {leaked[0]}",
            place=place,
            remedy="use the official split lists, `peft-eval data get superni`",
        )
    present = [name for name in listed if task_file(folder, name)]
    if not present:
        raise DataError(
            f"none of the {len(listed)} training tasks has a file in tasks/",
            place=place,
            remedy="`peft-eval data get superni` fetches them",
        )
    absent = len(listed) - len(present)
    return present, [f"{absent} of the {len(listed)} training tasks have no file and were not used"] if absent else []


def _example(task: Task, instance: Instance, encoding: Encoding, seed: int) -> Example:
    return Example.pair(
        task.name,
        task.category,
        instance.id,
        source=encode_source(task, instance.input, encoding).text,
        # Tk-Instruct draws anew at each step; drawn once per instance here, so that a resumed run sees the same.
        target=random.Random(f"{seed}:{instance.id}").choice(instance.outputs),
    )
