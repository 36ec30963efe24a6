"""Which instance is used for what."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from peft_eval.data.superni.task import (
    Instance,
    Task,
    evaluation_instances,
    held_out_instances,
    instances_to_read,
    training_instances,
)
from peft_eval.data.superni.tracks import category_slug, official_test_tasks
from peft_eval.errors import ConfigError
from peft_eval.scoring.superni import HEADLINE_METRICS


def task_with(count: int) -> Task:
    instances = tuple(Instance(f"t#{index}", str(index), ("o",)) for index in range(count))
    return Task("t", "c", "d", (), (), instances)


def numbers(instances: tuple[Instance, ...]) -> list[int]:
    return [int(instance.input) for instance in instances]


def test_evaluation_takes_the_first_hundred_in_order() -> None:
    assert numbers(evaluation_instances(task_with(150))) == list(range(100))
    assert numbers(evaluation_instances(task_with(26))) == list(range(26))


def test_a_large_task_is_divided_as_in_the_authors_code() -> None:
    random.seed(42)  # PROTOCOLS A3, with the global generator as there
    shuffled = list(range(200))
    random.shuffle(shuffled)
    for count in (200, 250):
        assert numbers(training_instances(task_with(count))) == shuffled[:100]
        assert numbers(held_out_instances(task_with(count))) == shuffled[100:]


@pytest.mark.parametrize(("count", "trained", "held_out"), [(26, 26, 0), (100, 100, 0), (199, 100, 99)])
def test_a_small_task_is_divided_in_file_order(count: int, trained: int, held_out: int) -> None:
    assert numbers(training_instances(task_with(count))) == list(range(trained))
    assert numbers(held_out_instances(task_with(count))) == list(range(100, 100 + held_out))


@pytest.mark.parametrize("wanted", [1, 100, 130, 500])
@pytest.mark.parametrize("count", [150, 200, 400])
def test_held_out_instances_are_never_trained_on(wanted: int, count: int) -> None:
    task = task_with(count)
    trained = numbers(training_instances(task, wanted))
    assert len(trained) <= wanted
    assert len(set(trained)) == len(trained)
    assert not set(trained) & set(numbers(held_out_instances(task)))
    read = task_with(min(count, instances_to_read(wanted)))
    assert numbers(training_instances(read, wanted)) == trained


def test_a_smaller_number_of_instances_lies_within_a_larger() -> None:
    task = task_with(300)
    assert training_instances(task, 130)[:20] == training_instances(task, 20)


def test_the_official_numbers_of_tasks() -> None:
    counts = {category: len(names) for category, names in official_test_tasks("default").items()}
    assert counts == {  # PROTOCOLS C1
        "Textual Entailment": 24,
        "Title Generation": 18,
        "Coreference Resolution": 14,
        "Answerability Classification": 13,
        "Question Rewriting": 11,
        "Data to Text": 9,
        "Word Analogy": 8,
        "Cause Effect Classification": 7,
        "Dialogue Act Recognition": 7,
        "Keyword Tagging": 5,
        "Overlap Extraction": 2,
        "Grammar Error Correction": 1,
    }
    assert counts.keys() == HEADLINE_METRICS.keys()
    assert sum(map(len, official_test_tasks("xlingual").values())) == 35
    assert category_slug("Data to Text") == "data_to_text"


@pytest.mark.parametrize("track", ["default", "xlingual"])
def test_the_official_lists_hold_the_same_names(shared_data: Path, track: str) -> None:
    listed = (shared_data / "superni" / "splits" / track / "test_tasks.txt").read_text().split()
    carried = [name for names in official_test_tasks(track).values() for name in names]
    assert sorted(carried) == sorted(listed)


def test_unknown_track() -> None:
    with pytest.raises(ConfigError, match="did you mean default"):
        official_test_tasks("defaults")
