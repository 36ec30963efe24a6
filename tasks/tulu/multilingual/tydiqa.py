"""TyDiQA's gold passage task as TÜLU was measured: nine languages, one example, SQuAD's F1 and exact match.

Source: open-instruct 60ceefa6, eval/tydiqa/run_eval.py. One lm-eval task a language.
"""

from __future__ import annotations

import functools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft_eval.data.chat import tulu_prompt
from peft_eval.data.location import data_folder
from peft_eval.data.tydiqa import LANGUAGES, Question, read_part
from peft_eval.errors import DataError, raise_all, unknown_name
from peft_eval.harness.quiet_notes import keep_quiet
from peft_eval.harness.task_tokenizer import task_tokenizer, warn_without_tokenizer
from peft_eval.scoring.squad import squad_scores

keep_quiet("tulu_tydiqa")
_SEED = 42
_MOST_PASSAGE_TOKENS = 512
_WORDS = json.loads(Path(__file__).with_name("languages.json").read_text(encoding="utf-8"))

# The members of every group; lm-eval gives them the group's own fields and names them GROUP::LANGUAGE.
MEMBERS = [
    {
        "task": language,
        "task_alias": language,
        "metadata": {"tydiqa_language": language, "template": "verbatim", "num_fewshot": 1, "version": 1.0},
    }
    for language in LANGUAGES
]


def documents(
    *, tydiqa_language: str, passage: bool, chat: bool, draw: int, tydiqa: str | None = None, **metadata: Any
) -> dict[str, Any]:
    """Returns a language's questions with their prompts.

    Args:
        tydiqa_language: one of the nine.
        passage: with the gold passage, else closed book.
        chat: in the TÜLU chat format.
        draw: at most so many questions.
        tydiqa: the data's folder.
        metadata: the rest, where the tokenizer is found.
    """
    from datasets import Dataset

    if tydiqa_language not in LANGUAGES:
        raise unknown_name("TyDiQA language", tydiqa_language, LANGUAGES)
    drawn, examples = _drawn(data_folder("tydiqa", tydiqa).resolve(), draw)
    questions, example = drawn[tydiqa_language], examples[tydiqa_language]
    if passage:
        tokenizer = task_tokenizer(metadata)
        if tokenizer is None:
            warn_without_tokenizer("TyDiQA passages over 512 tokens are not cut")
        else:
            questions = [cut_passage(question, tokenizer) for question in questions]
            example = cut_passage(example, tokenizer)
    rows = [
        {
            "id": question.id,
            "question": question.question,
            "answers": list(question.answers),
            "prompt": prompt(question, example, passage=passage, chat=chat),
        }
        for question in questions
    ]
    return {"test": Dataset.from_list(rows)}


@functools.lru_cache(maxsize=2)
def _drawn(folder: Path, count: int) -> tuple[dict[str, list[Question]], dict[str, Question]]:
    """Returns the questions and the example drawn for each language.

    One generator draws the questions of all languages, in the order of their names, and then the examples.
    """
    parts = {part: read_part(folder, part) for part in ("dev", "train")}
    by_language = {
        part: {language: [one for one in questions if one.language == language] for language in LANGUAGES}
        for part, questions in parts.items()
    }
    raise_all(
        DataError(
            f"the {part} part has no {language} questions",
            place=str(folder),
            remedy="fetch the data with `peft-eval data get tydiqa`",
        )
        for part, languages in by_language.items()
        for language, questions in languages.items()
        if not questions
    )
    generator = random.Random(_SEED)
    drawn = {
        language: generator.sample(questions, count) if len(questions) > count else questions
        for language, questions in by_language["dev"].items()
    }
    return drawn, {language: generator.sample(questions, 1)[0] for language, questions in by_language["train"].items()}


def cut_passage(question: Question, tokenizer: Any) -> Question:
    """Returns the question with its passage cut to 512 tokens, special ones counted.

    The original leaves the text of a BOS token at the head of a cut passage; here it is left out.
    """
    ids = tokenizer(question.passage, verbose=False).input_ids
    if len(ids) <= _MOST_PASSAGE_TOKENS:
        return question
    return replace(question, passage=tokenizer.decode(ids[:_MOST_PASSAGE_TOKENS], skip_special_tokens=True))


def prompt(question: Question, example: Question, *, passage: bool, chat: bool) -> str:
    """Returns a question behind one answered example, in its language's words."""
    words = _WORDS[question.language]

    def asked(one: Question) -> str:
        above = f"{words['passage']} {one.passage}\n" if passage else ""
        return f"{above}{words['question']} {one.question}\n"

    instruction = words["with_passage" if passage else "without"]
    worked = f"{asked(example)}{words['answer']} {example.answers[0]}"
    text = f"{instruction}\n\n{worked}\n\n{asked(question)}"
    return tulu_prompt(text, answer_prefix=words["answer"]) if chat else text + words["answer"]


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Returns F1 and exact match of the answer, the best over all given ones, 0 to 1."""
    return squad_scores(results[0].strip(), doc["answers"])
