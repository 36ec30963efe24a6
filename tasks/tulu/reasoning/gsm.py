"""GSM8K as TÜLU 2 was measured: eight worked examples or eight bare answers, the last number of the answer counts.

Source: open-instruct 60ceefa6, eval/gsm/run_eval.py.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from peft_eval.data.chat import tulu_prompt
from peft_eval.data.gsm8k import read_problems
from peft_eval.data.location import data_folder
from peft_eval.harness.quiet_notes import keep_quiet
from peft_eval.scoring.answers import last_number, loose_match, without_thousands_commas

keep_quiet("tulu_gsm")
_SEED = 42
_EXAMPLES = json.loads(Path(__file__).with_name("gsm_examples.json").read_text(encoding="utf-8"))


def documents(
    *, style: str, chat: bool = False, draw: int | None = None, gsm8k: str | None = None, **_: Any
) -> dict[str, Any]:
    """Returns the test problems with their prompts.

    Args:
        style: `cot`, worked examples, or `direct`, examples with the result alone.
        chat: in the TÜLU chat format.
        draw: draw so many problems; None takes all, in file order.
        gsm8k: the data's folder.
    """
    from datasets import Dataset

    problems = read_problems(data_folder("gsm8k", gsm8k))
    if draw is not None and len(problems) > draw:
        problems = random.Random(_SEED).sample(problems, draw)
    rows = [
        {
            "question": problem.question,
            "target": without_thousands_commas(problem.result),
            "prompt": prompt(problem.question, style=style, chat=chat),
        }
        for problem in problems
    ]
    return {"test": Dataset.from_list(rows)}


def prompt(question: str, *, style: str, chat: bool) -> str:
    """Returns a problem behind the eight examples."""
    # "Quesion" is the original's; models were scored with it.
    label, answer = {"cot": ("Question", "worked"), "direct": ("Quesion", "result")}[style]
    examples = [f"{label}: {example['question']}\nAnswer: {example[answer]}" for example in _EXAMPLES]
    text = "\n\n".join(["Answer the following questions.", *examples, f"Question: {question.strip()}"])
    return tulu_prompt(text, answer_prefix="Answer:") if chat else f"{text}\nAnswer:"


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Returns whether the last number of the answer is the result."""
    return {"exact_match": loose_match(last_number(results[0]), doc["target"])}
