"""BIG-Bench-Hard as TÜLU was measured: three examples a task, worked out or with the answer alone.

Source: open-instruct 60ceefa6 (v2) and 609312b (v1), eval/bbh/run_eval.py. One lm-eval task for each of the 27.
"""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

from peft_eval.data.bbh import TASKS, read_examples, read_prompt
from peft_eval.data.chat import tulu_prompt
from peft_eval.data.location import data_folder
from peft_eval.errors import DataError, raise_all, unknown_name
from peft_eval.harness.quiet_notes import keep_quiet
from peft_eval.scoring.answers import EXTRACTORS, loose_match

keep_quiet("tulu_bbh")
_SEED = 42
_ANSWER = "So the answer is"

# The members of every group; lm-eval gives them the group's own fields and names them GROUP::TASK.
MEMBERS = [
    {
        "task": task,
        "task_alias": task,
        "metadata": {"bbh_task": task, "template": "verbatim", "num_fewshot": 3, "version": 1.0},
    }
    for task in TASKS
]


def documents(
    *,
    bbh_task: str,
    style: str,
    chat: bool = False,
    draw: int | None = None,
    extraction: str = "v2",
    bbh: str | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Returns a task's examples with their prompts.

    Args:
        bbh_task: one of the 27.
        style: `cot` or `direct`.
        chat: in the TÜLU chat format.
        draw: draw so many; None takes all, in file order.
        extraction: how the answer is taken out, `v2` or `v1`.
        bbh: the data's folder.
    """
    from datasets import Dataset

    if bbh_task not in TASKS:
        raise unknown_name("BIG-Bench-Hard task", bbh_task, TASKS)
    folder = data_folder("bbh", bbh).resolve()
    examples = read_examples(folder, bbh_task)
    if draw is not None:
        examples = [examples[index] for index in _drawn(folder, draw)[bbh_task]]
    demonstrations = read_prompt(folder, bbh_task)
    if style == "direct":
        demonstrations = without_reasoning(demonstrations, place=bbh_task)
    rows = [
        {
            "input": example.input,
            "target": example.target,
            "prompt": prompt(demonstrations, example.input, chat=chat),
            "extraction": extraction,
        }
        for example in examples
    ]
    return {"test": Dataset.from_list(rows)}


@functools.lru_cache(maxsize=4)
def _drawn(folder: Path, count: int) -> dict[str, list[int]]:
    """Returns the positions of the examples drawn, by task.

    One generator draws for all tasks, one after another. The original takes them in the order of the file system; here
    it is that of their names.
    """
    sizes: dict[str, int] = {}
    errors: list[DataError] = []
    for task in TASKS:
        try:
            sizes[task] = len(read_examples(folder, task))
        except DataError as error:
            errors.append(error)
    raise_all(errors)
    generator = random.Random(_SEED)
    return {task: generator.sample(range(size), count) for task, size in sizes.items()}


def without_reasoning(demonstrations: str, place: str) -> str:
    """Returns the examples with the answer alone; what is no example stays.

    Raises:
        DataError: an example without an answer.
    """
    blocks = []
    for block in demonstrations.split("\n\n"):
        if block.startswith("Q:"):
            if _ANSWER not in block or "\nA:" not in block:
                raise DataError(f"an example without {_ANSWER!r} or an answer", place=place)
            question = block.split("\nA:")[0].strip()
            block = f"{question}\nA: {block.split(_ANSWER)[-1].strip()}"
        blocks.append(block)
    return "\n\n".join(blocks)


def prompt(demonstrations: str, question: str, *, chat: bool) -> str:
    """Returns a question behind its task's examples."""
    text = f"{demonstrations.strip()}\n\nQ: {question}"
    return tulu_prompt(text, answer_prefix="A:") if chat else f"{text}\nA:"


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Returns whether the answer is right but for case and punctuation."""
    return {"exact_match": loose_match(EXTRACTORS[doc["extraction"]](results[0]), doc["target"])}
