"""Reads BIG-Bench-Hard (suzgunmirac/BIG-Bench-Hard): 27 tasks, and a prompt of three worked examples for each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peft_eval.data.text_files import read_json, read_text
from peft_eval.errors import DataError, raise_all

TASKS = (
    "boolean_expressions",
    "causal_judgement",
    "date_understanding",
    "disambiguation_qa",
    "dyck_languages",
    "formal_fallacies",
    "geometric_shapes",
    "hyperbaton",
    "logical_deduction_five_objects",
    "logical_deduction_seven_objects",
    "logical_deduction_three_objects",
    "movie_recommendation",
    "multistep_arithmetic_two",
    "navigate",
    "object_counting",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
    "temporal_sequences",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects",
    "tracking_shuffled_objects_three_objects",
    "web_of_lies",
    "word_sorting",
)
_REMEDY = "fetch the data with `peft-eval data get bbh`"
# A prompt file begins with a canary and a line of dashes.
_LINES_BEFORE_PROMPT = 2


@dataclass(frozen=True, slots=True)
class Example:
    """An item of a task."""

    input: str
    target: str


def read_examples(folder: Path, task: str) -> list[Example]:
    """Reads `bbh/<task>.json`, in file order.

    Raises:
        DataError: the file is not there or has wrong examples; all of them are named.
    """
    path = folder / "bbh" / f"{task}.json"
    content = read_json(path, _REMEDY)
    examples = content.get("examples") if isinstance(content, dict) else None
    if not isinstance(examples, list) or not examples:
        raise DataError("no list of examples in it", place=str(path), remedy=_REMEDY)
    missing = [key for key in ("input", "target") if not any(isinstance(one, dict) and key in one for one in examples)]
    if missing:
        raise DataError(f"no example has {' or '.join(missing)}", place=str(path), remedy=_REMEDY)
    raise_all(
        DataError("no text in input and target", place=f"{path}: examples[{index}]")
        for index, example in enumerate(examples)
        if not isinstance(example, dict) or not all(isinstance(example.get(key), str) for key in ("input", "target"))
    )
    return [Example(example["input"], example["target"]) for example in examples]


def read_prompt(folder: Path, task: str) -> str:
    """Reads `cot-prompts/<task>.txt` without what stands before the prompt.

    Raises:
        DataError: the file is not there, or begins otherwise.
    """
    path = folder / "cot-prompts" / f"{task}.txt"
    lines = read_text(path, _REMEDY).replace("\r\n", "\n").split("\n")
    if len(lines) <= _LINES_BEFORE_PROMPT or set(lines[1].strip()) != {"-"}:
        raise DataError("its second line is not one of dashes", place=str(path), remedy=_REMEDY)
    return "\n".join(lines[_LINES_BEFORE_PROMPT:])
