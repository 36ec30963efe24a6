"""The mini corpus: the same for a seed everywhere, valid SuperNI files, a split by category, right answers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from peft_eval.data.mini import words
from peft_eval.data.mini.corpus import (
    TRAIN_CATEGORIES,
    UNSEEN_CATEGORIES,
    as_superni,
    task_file,
    train_tasks,
    unseen_tasks,
)
from peft_eval.data.mini.suites import memorization_questions, unseen_questions
from peft_eval.data.mini.task import MiniTask
from peft_eval.data.superni.reader import read_task
from peft_eval.data.superni.task import training_instances

TASKS = train_tasks() + unseen_tasks()
BY_NAME = {task.name: task for task in TASKS}
by_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def corpus_sha256(seed: int) -> str:
    files = [task_file(task, seed) for task in TASKS]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def test_the_corpus_has_the_promised_size():
    assert len(TASKS) == len(BY_NAME) == 74
    assert (len(TRAIN_CATEGORIES), len(UNSEEN_CATEGORIES)) == (9, 4)


def test_no_category_is_both_trained_on_and_unseen():
    train, unseen = ({task.category for task in tasks} for tasks in (train_tasks(), unseen_tasks()))
    assert len(train) == 9 and len(unseen) == 4
    assert not train & unseen


def test_a_seed_gives_the_same_corpus_in_another_process_and_today():
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "from test_mini_corpus import corpus_sha256 as h; print(h(0))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONHASHSEED": "12345"}, capture_output=True, text=True, check=True
    )
    # A change of this hash changes every number that was measured on the corpus: say so in the CHANGELOG.
    assert (
        other.stdout.strip() == corpus_sha256(0) == "87b9548c997ae23d305efe8c0f1464f7eded419b46b82526fc05457c203705a3"
    )
    assert corpus_sha256(1) != corpus_sha256(0)


@by_task
def test_a_task_is_a_valid_superni_file(task: MiniTask, tmp_path: Path):
    path = tmp_path / f"{task.name}.json"
    path.write_text(json.dumps(task_file(task)), encoding="utf-8")
    read, errors = read_task(path)
    assert errors == []
    assert read == as_superni(task)


@by_task
def test_a_task_has_200_distinct_instances_and_none_is_an_example(task: MiniTask):
    made = as_superni(task)
    inputs = {instance.input for instance in made.instances}
    assert len(inputs) == len(made.instances) == 200
    assert not inputs & {example.input for example in made.positive}
    assert len(made.positive) == 2
    assert len({instance.id for instance in made.instances}) == 200


@by_task
def test_inputs_and_answers_are_clean(task: MiniTask):
    for instance in as_superni(task).instances:
        assert instance.input.strip() == instance.input != ""
        assert instance.outputs[0].strip() == instance.outputs[0] != ""


@by_task
def test_negative_examples_are_wrong(task: MiniTask):
    fields = task_file(task)
    for example in fields["Negative Examples"]:
        assert example["explanation"] != f"The right output is {example['output']}."


@by_task
def test_a_definition_has_wordings_and_seeds_draw_them(task: MiniTask):
    drawn = {task_file(task, seed, instances=1)["Definition"][0] for seed in range(30)}
    assert drawn == set(task.definitions)
    assert len(drawn) >= 2


@by_task
def test_the_two_examples_show_different_answers(task: MiniTask):
    first, second = as_superni(task).positive
    assert first.output != second.output


def test_more_instances_continue_the_same_sequence():
    task = BY_NAME["add_two_numbers"]
    assert as_superni(task, instances=300).instances[:200] == as_superni(task).instances


def test_word_groups_do_not_overlap():
    groups = (words.ANIMALS, words.FOODS, words.THINGS, words.COLORS, words.ADJECTIVES, words.NAMES, words.CITIES)
    together = [word for group in groups for word in group]
    assert len(together) == len(set(together))


def test_memorization_questions_are_never_trained_on():
    for category in TRAIN_CATEGORIES:
        for task, instance in memorization_questions(category.name):
            assert instance not in training_instances(task)


def test_unseen_questions_take_the_first_25_of_each_task():
    questions = [question for category in UNSEEN_CATEGORIES for question in unseen_questions(category.name)]
    assert len(questions) == 25 * 22
    assert questions[0][1] == questions[0][0].instances[0]
