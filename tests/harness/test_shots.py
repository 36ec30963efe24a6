"""The n-shot column: tasks that put their examples into the prompt themselves say how many, groups what they share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from peft_eval.harness.shots import tell_shots


def task(shots: int | None) -> Any:
    return SimpleNamespace(config=SimpleNamespace(metadata={} if shots is None else {"num_fewshot": shots}))


def test_groups_show_what_their_members_agree_on():
    tasks = {"mmlu::stem::algebra": task(5), "mmlu::stem::physics": task(5), "gsm": task(8), "other": task(None)}
    results = {
        "n-shot": dict.fromkeys([*tasks, "mmlu", "mmlu::stem", "tulu"], 0),
        "group_subtasks": {
            "mmlu": ["mmlu::stem"],
            "mmlu::stem": ["mmlu::stem::algebra", "mmlu::stem::physics"],
            "tulu": ["mmlu", "gsm"],
        },
    }
    tell_shots(results, tasks)
    five = dict.fromkeys(["mmlu::stem::algebra", "mmlu::stem::physics", "mmlu::stem", "mmlu"], 5)
    assert results["n-shot"] == five | {"gsm": 8, "other": 0}


def test_other_tasks_are_left_alone():
    results: dict[str, Any] = {"n-shot": {"arc": 25, "group": 25}, "group_subtasks": {"group": ["arc"]}}
    tell_shots(results, {"arc": task(None)})
    assert results["n-shot"] == {"arc": 25, "group": 25}
