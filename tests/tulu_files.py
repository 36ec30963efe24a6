"""Small folders in the official layouts of MMLU, GSM8K, BIG-Bench-Hard and TyDiQA; every text in them is made up."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from peft_eval.data import bbh, tydiqa
from peft_eval.data.mmlu.subjects import all_subjects

EXAMPLES = [
    ("What is 1 + 1?", "1", "2", "3", "4", "B"),
    ("Which is a, in brackets", "(a)", "(b)", "(c)", "(d)", "A"),
    ("Is it so, or not?", "Yes, it is", "No", "None", "Both", "C"),
    ("How many?\nTwo lines", "one", "two", "three", "four", "D"),
    ("The last example", "w", "x", "y", "z", "B"),
]
QUESTIONS = [("What is 2 + 2?", "3", "4", "None", "0.50", "B"), ('Who said "so"?', "He", "She", "They", "We", "D")]


def mmlu(folder: Path, *, header: bool = False) -> Path:
    """Writes all subjects with five examples and two questions each."""
    for part, rows in (("dev", EXAMPLES), ("test", QUESTIONS)):
        (folder / part).mkdir(parents=True)
        for subject in all_subjects():
            with (folder / part / f"{subject}_{part}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if header:
                    writer.writerow(["question", "choice0", "choice1", "choice2", "choice3", "answer"])
                writer.writerows([(*row[:-1], "ABCD".index(row[-1])) if header else row for row in rows])
    return folder


def gsm8k(folder: Path, problems: int = 3) -> Path:
    """Writes test problems; the n-th asks for n plus 1,000."""
    folder.mkdir(parents=True)
    rows = [
        {"question": f"What is {n} more than 1,000? ", "answer": f"1000 + {n} = {1000 + n}\n#### {1000 + n:,}"}
        for n in range(problems)
    ]
    (folder / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return folder


PROMPT = """CANARY
-----
Say whether it is true.

Q: Is 1 odd?
A: Let's think step by step.
1 is not divisible by 2. So the answer is Yes.

Q: Is 2 odd?
A: Let's think step by step.
2 is divisible by 2. So the answer is No.

Q: Is 3 odd?
A: Let's think step by step.
3 is 2 + 1. So the answer is Yes."""


def big_bench_hard(folder: Path, examples: int = 41) -> Path:
    """Writes all 27 tasks with the same prompt; the n-th example asks for n."""
    (folder / "bbh").mkdir(parents=True)
    (folder / "cot-prompts").mkdir()
    for task in bbh.TASKS:
        rows = [{"input": f"Is {n} odd?", "target": "Yes" if n % 2 else "No"} for n in range(examples)]
        (folder / "bbh" / f"{task}.json").write_text(json.dumps({"canary": "x", "examples": rows}), encoding="utf-8")
        (folder / "cot-prompts" / f"{task}.txt").write_text(PROMPT, encoding="utf-8")
    return folder


def tydiqa_rows(part: str, count: int) -> list[dict]:
    """Returns rows in the Hub's form, `count` of each language."""
    return [
        {
            "id": f"{language}-{part}{n}-0",
            "context": f"The {language} passage {n} of {part} says {n}.",
            "question": f"What does {language} {n} say?",
            "answers": {"text": [f"{n}", f"says {n}"], "answer_start": [0, 0]},
        }
        for n in range(count)
        for language in reversed(tydiqa.LANGUAGES)
    ]


def tydiqa_official(folder: Path, train: int = 1, dev: int = 1) -> Path:
    """Writes the official JSON files."""
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("dev", dev)):
        paragraphs = [
            {
                "context": row["context"],
                "qas": [
                    {
                        "id": row["id"],
                        "question": row["question"],
                        "answers": [{"text": text, "answer_start": 0} for text in row["answers"]["text"]],
                    }
                ],
            }
            for row in tydiqa_rows(part, count)
        ]
        content = {"version": "TyDiQA-GoldP-1.1-for-SQuAD-1.1", "data": [{"paragraphs": [one]} for one in paragraphs]}
        (folder / f"tydiqa-goldp-v1.1-{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
