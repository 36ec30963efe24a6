"""The prompts of the TÜLU suites, byte for byte.

The files of `golden/` were written by hand from the protocol (open-instruct 60ceefa6), around made-up questions; each
ends in one line break more than its prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from tests import tulu_files

GOLDEN = Path(__file__).parent / "golden"
STOPS = {"gsm": ["\n"], "bbh": ["\n\n"], "tydiqa": ["\n"]}
LENGTHS = {"gsm": 512, "bbh": 512, "tydiqa": 50}
SHOTS = {"mmlu_0shot": 0, "mmlu_5shot": 5, "gsm": 8, "bbh": 3, "tydiqa": 1}
MEMBER = {"mmlu": "stem::math::abstract_algebra", "bbh": "navigate", "tydiqa": "finnish"}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    root = tmp_path_factory.mktemp("tulu")
    metadata = {
        "mmlu": str(tulu_files.mmlu(root / "mmlu")),
        "gsm8k": str(tulu_files.gsm8k(root / "gsm8k")),
        "bbh": str(tulu_files.big_bench_hard(root / "bbh")),
        "tydiqa": str(tulu_files.tydiqa_official(root / "tydiqa")),
    }
    tasks = Path(__file__).parents[2] / "tasks"
    manager = TaskManager(include_path=str(tasks), include_defaults=False, metadata=metadata)
    return lambda name: manager.load([name])


def prompt(task: Any, index: int = 0) -> str:
    """Returns what lm-eval asks the model."""
    task.build_all_requests(limit=None, rank=0, world_size=1)
    return task.instances[index].args[0]


@pytest.mark.parametrize("golden", sorted(path.stem for path in GOLDEN.glob("*.txt")))
def test_a_prompt_is_the_protocols(load: Callable, golden: str):
    suite = golden.split("_")[0]
    # The drawn variants shuffle: `_full` keeps the file's order, whose first item the golden files hold.
    name = f"tulu_{golden}" + ("_full" if suite in ("gsm", "bbh") else "")
    tasks = load(name)["tasks"]
    task = tasks[f"{name}::{MEMBER[suite]}" if suite in MEMBER else name]
    assert prompt(task) == (GOLDEN / f"{golden}.txt").read_text(encoding="utf-8").removesuffix("\n")
    if suite != "mmlu":
        options = task.config.generation_kwargs
        assert options["until"] == ([] if golden.endswith("_chat") else STOPS[suite])
        assert (options["max_gen_toks"], options["do_sample"]) == (LENGTHS[suite], False)
    assert all(one.config.metadata["template"] == "verbatim" for one in tasks.values())
    (shots,) = [count for name, count in SHOTS.items() if golden.startswith(name)]
    assert {one.config.metadata["num_fewshot"] for one in tasks.values()} == {shots}


def test_the_letters_follow_the_prompt(load: Callable):
    task = load("tulu_mmlu_0shot")["tasks"]["tulu_mmlu_0shot::stem::math::abstract_algebra"]
    task.build_all_requests(limit=None, rank=0, world_size=1)
    assert [one.args[1] for one in task.instances[:4]] == [" A", " B", " C", " D"]
    assert {one.args[0] for one in task.instances[:4]} == {prompt(task)}


@pytest.mark.parametrize("variant", ["cot_v1", "cot_chat_v1", "direct_v1", "direct_chat_v1"])
def test_v1_of_bbh_asks_the_same_and_never_stops(load: Callable, variant: str):
    old = load(f"tulu_bbh_{variant}")["tasks"][f"tulu_bbh_{variant}::navigate"]
    new_name = f"tulu_bbh_{variant.removesuffix('_v1')}"
    new = load(new_name)["tasks"][f"{new_name}::navigate"]
    assert [doc["prompt"] for doc in old.task_docs] == [doc["prompt"] for doc in new.task_docs]
    assert old.config.generation_kwargs["until"] == []


GROUPS = {
    "tulu_mmlu_0shot": 57, "tulu_mmlu_5shot_chat_v1": 57, "tulu_bbh_cot": 27, "tulu_bbh_direct_chat_full": 27,
    "tulu_tydiqa_gp": 9, "tulu_knowledge": 114, "tulu_reasoning_chat": 56, "tulu_multilingual": 18,
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in GROUPS if not name.endswith("v1")])
def test_a_group_has_the_tasks_that_it_says(load: Callable, tasks_root: Path, name: str):
    from peft_eval.harness.suites import read_suites

    said = {suite.name: suite.tasks for suite in read_suites({"tulu": tasks_root / "tulu"})}
    assert len(load(name)["tasks"]) == GROUPS[name] == said[name]


def test_a_hub_export_of_mmlu_makes_the_same_prompts(load: Callable, tasks_root: Path, tmp_path: Path):
    folder = str(tulu_files.mmlu(tmp_path / "mmlu", header=True))
    manager = TaskManager(include_path=str(tasks_root), include_defaults=False, metadata={"mmlu": folder})
    ours, original = (one(["tulu_mmlu_5shot"])["tasks"] for one in (manager.load, lambda names: load(names[0])))
    for name, task in original.items():
        assert ours[name].dataset["test"].to_list() == task.dataset["test"].to_list()
