"""MMLU as TÜLU was measured: 0 or 5 examples, the likeliest of the four letters as the next token.

Source: open-instruct 60ceefa6 (v2) and 609312b (v1), eval/mmlu/run_eval.py. One lm-eval task a subject, in a group for
each subcategory and category; all means are over questions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peft_eval.data.chat import tulu_prompt
from peft_eval.data.location import data_folder
from peft_eval.data.mmlu.reader import LETTERS, Question, read_questions
from peft_eval.data.mmlu.subjects import SUBJECTS
from peft_eval.errors import ConfigError
from peft_eval.harness.quiet_notes import keep_quiet
from peft_eval.harness.task_tokenizer import task_tokenizer, warn_without_tokenizer

keep_quiet("tulu_mmlu")
_MOST_TOKENS = 2048
# Tokens that joining two texts may add to or take from the sum of their lengths; beyond it the whole is counted.
_MARGIN = 64


def _slug(name: str) -> str:
    """Returns a category's name without what stands in brackets and without spaces, as part of a task's name."""
    return name.split(" (")[0].lower().replace(" ", "_")


_MEAN_OVER_QUESTIONS = [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]


def _members(shots: int) -> list[dict[str, Any]]:
    """Returns a group's members; lm-eval gives them its fields and names them GROUP::CATEGORY::...::SUBJECT.

    Args:
        shots: worked examples in a prompt, for the table.
    """
    return [
        {
            "group": _slug(category),
            "group_alias": category,
            "aggregate_metric_list": _MEAN_OVER_QUESTIONS,
            "task": [
                {
                    "group": _slug(subcategory),
                    "group_alias": subcategory,
                    "aggregate_metric_list": _MEAN_OVER_QUESTIONS,
                    "task": [
                        {
                            "task": subject,
                            "task_alias": subject,
                            "metadata": {
                                "mmlu_subject": subject,
                                "template": "verbatim",
                                "num_fewshot": shots,
                                "version": 1.0,
                            },
                        }
                        for subject in subjects
                    ],
                }
                for subcategory, subjects in parts.items()
            ],
        }
        for category, parts in SUBJECTS.items()
    ]


MEMBERS = _members(0)
MEMBERS_5SHOT = _members(5)


def documents(
    *, mmlu_subject: str, shots: int, chat: bool = False, letters: str = "v2", mmlu: str | None = None, **metadata: Any
) -> dict[str, Any]:
    """Returns a subject's questions with their prompts and the texts of the four letters.

    Args:
        mmlu_subject: one of the 57.
        shots: worked examples, at most.
        chat: in the TÜLU chat format.
        letters: which token stands for a letter: `v2`, the last of " A"; `v1`, the first of "A".
        mmlu: the data's folder.
        metadata: the rest, where the tokenizer is found.
    """
    from datasets import Dataset

    folder = data_folder("mmlu", mmlu)
    examples = read_questions(folder, "dev", mmlu_subject)[:shots] if shots else []
    questions = read_questions(folder, "test", mmlu_subject)
    tokenizer = task_tokenizer(metadata)
    if tokenizer is None:
        warn_without_tokenizer("MMLU prompts over 2,048 tokens do not have their examples dropped")
    make = _maker(mmlu_subject, examples, chat)
    kept = (
        [len(examples)] * len(questions)
        if tokenizer is None
        else _shots_that_fit(make, questions, len(examples), tokenizer)
    )
    rows = [
        {
            "question": question.text,
            "answer": LETTERS.index(question.answer),
            "choices": letter_texts(letters, tokenizer),
            "shots": count,
            "prompt": make(question, count),
        }
        for question, count in zip(questions, kept, strict=True)
    ]
    return {"test": Dataset.from_list(rows)}


def _maker(subject: str, examples: list[Question], chat: bool) -> Callable[[Question, int], str]:
    # Every word of the subject has a space before it in the original, so that two follow "about".
    header = f"The following are multiple choice questions (with answers) about  {subject.replace('_', ' ')}.\n\n"
    worked = [f"{_asked(example)} {example.answer}\n\n" for example in examples]

    def make(question: Question, shots: int) -> str:
        text = header + "".join(worked[:shots]) + _asked(question)
        return tulu_prompt(text, answer_prefix="The answer is:") if chat else text

    return make


def _asked(question: Question) -> str:
    choices = "".join(f"\n{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True))
    return f"{question.text}{choices}\nAnswer:"


def _shots_that_fit(
    make: Callable[[Question, int], str], questions: list[Question], shots: int, tokenizer: Any
) -> list[int]:
    """Returns how many examples each prompt keeps so that it has at most 2,048 tokens; 0 where none helps.

    The original loops forever on a question that is too long by itself.
    """
    if not shots:
        return [0] * len(questions)
    empty = Question("", ("", "", "", ""), "A")
    examples = _count(tokenizer, [make(empty, shots)])[0]
    alone = _count(tokenizer, [_asked(question) for question in questions])
    kept = [shots] * len(questions)
    unsure = [index for index in range(len(questions)) if examples + alone[index] + _MARGIN > _MOST_TOKENS]
    while unsure:
        counts = _count(tokenizer, [make(questions[index], kept[index]) for index in unsure])
        unsure = [index for index, count in zip(unsure, counts, strict=True) if count > _MOST_TOKENS and kept[index]]
        for index in unsure:
            kept[index] -= 1
    return kept


def _count(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False).input_ids]


def letter_texts(letters: str, tokenizer: Any) -> list[str]:
    """Returns the texts whose last token, put behind the prompt, is the original's token for each letter.

    Behind "Answer:" both " A" and "A" can be meant: v2 takes the last token of " A"; v1 the first of "A", which for
    tokenizers that put a space before every text (LLaMA's) is the same.

    Raises:
        ConfigError: v1 without a tokenizer.
    """
    if letters == "v2":
        return [f" {letter}" for letter in LETTERS]
    if tokenizer is None:
        raise ConfigError(
            "MMLU v1 takes its letters' tokens from the tokenizer, and none is known",
            place="--metadata",
            remedy="pass tokenizer=DIR_OR_HUB_ID",
        )
    return [_first_token_text(letter, tokenizer) for letter in LETTERS]


def _first_token_text(letter: str, tokenizer: Any) -> str:
    wanted = tokenizer.encode(letter, add_special_tokens=False)[0]
    context = tokenizer.encode("Answer:", add_special_tokens=False)
    for text in (letter, f" {letter}"):
        if tokenizer.encode(f"Answer:{text}", add_special_tokens=False) == [*context, wanted]:
            return text
    return letter
