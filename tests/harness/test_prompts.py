"""Prompts are watched task by task: two BOS ids end the run, cuts are counted where they happened."""

from __future__ import annotations

import json
import pickle

import pytest
from lm_eval.api.instance import Instance

from peft_eval.errors import RouteError
from peft_eval.harness.prompts import PromptWatch, TokenText
from peft_eval.harness.record import PromptCounts


def asking(task: str, text: str = "prompt", room: int = 4) -> Instance:
    return Instance("generate_until", {}, (text, {"max_gen_toks": room}), 0, metadata=(task, 0, 1))


def scoring(task: str, question: int = 0) -> Instance:
    return Instance("loglikelihood", {}, ("context", " yes"), 0, metadata=(task, question, 1))


def pair(context: list[int], continuation: list[int]):
    return ("context", " yes"), context, continuation


def test_two_bos_ids_end_the_run_in_prompts_and_in_contexts():
    watch = PromptWatch(100, bos_id=0)
    watch.look([asking("fine")], [[0, 5, 0]], 4)
    watch.look_at_pairs([scoring("fine")], [pair([0], [5])], 100)
    with pytest.raises(RouteError, match="doubled: a prompt begins with two BOS ids"):
        watch.look([asking("doubled")], [[0, 0, 5]], 4)
    with pytest.raises(RouteError, match="scored: a prompt begins with two BOS ids"):
        watch.look_at_pairs([scoring("scored")], [pair([0, 0], [5])], 100)
    PromptWatch(100, bos_id=None).look([asking("none")], [[0, 0]], 4)


def test_cuts_are_counted_for_the_task_that_asked_even_if_two_ask_the_same():
    watch = PromptWatch(10, bos_id=None)
    watch.look(
        [asking("short"), asking("long"), asking("twin"), asking("short")],
        [[1, 2], list(range(9)), [1, 2], [3]],
        default_new_tokens=4,
    )
    watch.answered([1, 2], cut=True)  # answered in the order they were asked
    watch.answered([1, 2], cut=False)
    watch.answered([3], cut=False)
    watch.answered([3, 4, 5, 6, 7, 8], cut=True)  # what lm-eval leaves of the long one
    scored = [scoring("scored", question) for question in (0, 1, 1, 1)]  # a question has a pair for each choice
    watch.look_at_pairs(scored, [pair([1], [2]), pair([1] * 9, [2]), pair([1] * 9, [2, 3]), pair([1] * 9, [2])], 10)
    record = watch.counts.as_record()
    assert {task: entry["prompts"] for task, entry in record.items()} == {"short": 2, "long": 1, "twin": 1, "scored": 2}
    assert {task: entry["truncated_prompts_share"] for task, entry in record.items()} == {
        "short": 0.0, "long": 1.0, "twin": 0.0, "scored": 0.5,
    }  # fmt: skip
    assert {task: entry["truncated_answers_share"] for task, entry in record.items()} == {
        "short": 0.5, "long": 1.0, "twin": 0.0, "scored": None,
    }  # fmt: skip
    assert [task for task, entry in record.items() if not entry["flagged"]] == ["twin"]
    assert watch.counts.warnings() == [
        "long: 1 of 1 prompts are longer than the context and were cut",
        "long: 1 of 1 answers ended at the length limit",
        "scored: 1 of 2 prompts are longer than the context and were cut",
        "short: 1 of 2 answers ended at the length limit",
    ]


def test_the_first_prompt_of_each_task_is_kept_with_its_ids():
    watch = PromptWatch(10, bos_id=None)
    watch.look([asking("a", "one"), asking("a", "two"), asking("b", "three")], [[1], [2], [3]], 4)
    watch.look_at_pairs([scoring("c")], [pair([7], [8])], 10)
    first = {task: entry["first"] for task, entry in watch.counts.as_record().items()}
    assert first["a"] == {"text": "one", "token_ids": [1]}
    assert first["b"] == {"text": "three", "token_ids": [3]}
    assert first["c"] == {"text": "context", "token_ids": [7], "continuation": " yes", "continuation_ids": [8]}


def test_up_to_one_in_a_hundred_is_not_flagged():
    watch = PromptWatch(10, bos_id=None)
    watch.look([asking("a")] * 100, [[1]] * 100, 4)
    for number in range(100):
        watch.answered([1], cut=number == 0)
    assert not watch.counts.as_record()["a"]["flagged"]
    assert watch.counts.warnings() == []


def test_text_that_carries_ids_is_text_to_everybody_else():
    text = TokenText("abc", [1, 2])
    assert text == "abc" and json.dumps([text]) == '["abc"]'
    again = pickle.loads(pickle.dumps(text))
    assert (again, again.token_ids) == ("abc", (1, 2))


def test_members_of_a_group_are_flagged_in_one_line():
    counts = PromptCounts()
    for task, cut in (("bbh::navigate", 2), ("bbh::snarks", 1), ("bbh::ruin_names", 0), ("mmlu::stem::physics", 0)):
        for _ in range(2):
            counts.add(task, too_long=task.startswith("mmlu"), answered=task.startswith("bbh"))
        counts.cut_answers[task] = cut
    assert counts.warnings() == [
        "bbh: 3 of 4 answers of 2 of its tasks ended at the length limit",
        "mmlu::stem::physics: 2 of 2 prompts are longer than the context and were cut",
    ]
