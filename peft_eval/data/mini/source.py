"""The mini corpus as a source of training examples: `--data mini` or `--data mini:seed=7`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from peft_eval.data.encoding import Encoding, encode_source, encoding_named
from peft_eval.data.mini.corpus import DEFAULT_SEED, as_superni, train_tasks
from peft_eval.data.source import Example, HeldOut, Selection, TrainingData, draw_tasks, examples_sha256
from peft_eval.data.superni.source import instances_asked_for
from peft_eval.data.superni.task import Instance, Task, held_out_instances, instances_to_read, training_instances
from peft_eval.errors import ConfigError


class MiniSource:
    """The training tasks of the mini corpus, made when asked for.

    Tasks are drawn and instances divided as in `SuperNISource`: a smaller draw of tasks lies within a larger one,
    and what the suite `mini_memorization` holds out is never trained on.
    """

    name = "mini"
    summary = "52 small training tasks made by program, no files (mini:seed=N for another corpus)"

    def load(self, location: str | None, selection: Selection) -> TrainingData:
        """Returns the selected examples; see `peft_eval.data.source.DataSource.load`."""
        encoding = encoding_named(selection.encoding, place="encoding")
        count = instances_asked_for(selection)
        seed = corpus_seed(location)
        by_name = {task.name: task for task in train_tasks()}
        wanted = instances_to_read(count)
        tasks = [as_superni(by_name[name], seed, wanted) for name in draw_tasks(sorted(by_name), selection, "mini")]
        examples = [
            _example(task, instance, encoding) for task in tasks for instance in training_instances(task, count)
        ]
        return TrainingData(
            source=f"{self.name}:seed={seed}",
            encoding=encoding.name,
            examples=examples,
            content_sha256=examples_sha256(examples),
            notes=_notes(tasks, count),
        )

    def held_out(
        self, location: str | None, selection: Selection, trained: Mapping[str, Sequence[str]]
    ) -> list[HeldOut]:
        """Returns the `held_out_instances` of the trained tasks; see `peft_eval.data.source.HoldsOut`."""
        encoding, seed = encoding_named(selection.encoding, place="encoding"), corpus_seed(location)
        return [
            HeldOut(_example(made, instance, encoding), instance.outputs)
            for made in (as_superni(task, seed) for task in train_tasks() if task.name in trained)
            for instance in held_out_instances(made)
            if instance.id not in set(trained[made.name])
        ]


def corpus_seed(location: str | None) -> int:
    """Returns the seed that a location such as `seed=7` names; the default seed for None.

    Raises:
        ConfigError: the location is something else.
    """
    if not location:
        return DEFAULT_SEED
    match = re.fullmatch(r"(?:seed=)?(\d+)", location)
    if match is None:
        raise ConfigError(f"{location!r} is not a seed", place="data mini", remedy="write mini or e.g. mini:seed=7")
    return int(match[1])


def _notes(tasks: list[Task], count: int) -> list[str]:
    small = sum(len(training_instances(task, count)) < count for task in tasks)
    return [f"{small} of {len(tasks)} tasks have fewer than {count} distinct training instances"] if small else []


def _example(task: Task, instance: Instance, encoding: Encoding) -> Example:
    return Example.pair(
        task.name,
        task.category,
        instance.id,
        source=encode_source(task, instance.input, encoding).text,
        target=instance.outputs[0],
    )
