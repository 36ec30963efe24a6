"""The samples behind the numbers, packed: each question once, each row's answers apart, compressed, read on a click."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from peft_eval.report.rows import Column, Row
from peft_eval.report.sample import Sample, read_samples
from peft_eval.study.results import Run

MOST_SAMPLES = 100_000


@dataclass
class Samples:
    """All samples of a page.

    Attributes:
        chunks: gzipped JSON in base64, by id. `q<n>` holds the questions of task n: `[prompt, [reference, ...]]`.
            A row's id holds its answers, `{n: [[question, [answer of each seed]], ...]}`; an answer is
            `[text, filtered text or "", {metric: score}]`, or null where a seed was not asked.
        tasks: the tasks by n.
        suites: n of each suite's tasks.
        kept: samples in the page.
        total: samples there are.
    """

    chunks: dict[str, str] = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)
    suites: dict[str, list[int]] = field(default_factory=dict)
    kept: int = 0
    total: int = 0


def pack_samples(rows: Sequence[Row], columns: Sequence[Column], *, most: int, step: Callable[[], None]) -> Samples:
    """Packs the samples of all rows.

    Args:
        rows: whose samples.
        columns: their suites count.
        most: keep so many samples; where there are more, the first questions of each task, the same for every row.
        step: is called after each row.

    Raises:
        DataError: a file of samples is broken.
    """
    suites = list(dict.fromkeys(column.suite for column in columns))
    packed = Samples()
    packed.total = sum(_count(run, suite) for row in rows for suite in suites for run in _runs(row, suite) if run)
    share = min(1.0, most / packed.total) if packed.total else 1.0
    numbers: dict[str, int] = {}
    questions: list[dict[str, int]] = []
    for row in rows:
        answers: dict[int, list[Any]] = {}
        for suite in suites:
            runs = _runs(row, suite)
            for task in dict.fromkeys(task for run in runs if run for task in run.tasks_of(suite)):
                number = numbers.setdefault(task, len(numbers))
                if number == len(questions):
                    questions.append({})
                if number not in packed.suites.setdefault(suite, []):
                    packed.suites[suite].append(number)
                of_seeds = [read_samples(run.files[task]) if run and task in run.files else {} for run in runs]
                answers[number] = _together(of_seeds, questions[number], share)
                packed.kept += sum(one is not None for _, each in answers[number] for one in each)
        if answers:
            packed.chunks[row.id] = compressed(answers)
        step()
    packed.tasks = list(numbers)
    for number, known in enumerate(questions):
        packed.chunks[f"q{number}"] = compressed([json.loads(text) for text in known])
    return packed


def compressed(content: Any) -> str:
    """Returns JSON, gzipped and in base64, as the page reads it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=6, mtime=0)).decode()


def _runs(row: Row, suite: str) -> list[Run | None]:
    return [entry.run_of(suite) for entry in row.entries]


def _count(run: Run, suite: str) -> int:
    return sum(max(map(len, run.scores[task].values()), default=0) for task in run.tasks_of(suite))


def _together(of_seeds: Sequence[dict[str, Sample]], known: dict[str, int], share: float) -> list[Any]:
    """Returns the first questions with each seed's answer, and adds new questions to those known."""
    asked = list(dict.fromkeys(key for samples in of_seeds for key in samples))
    found = []
    for key in asked[: ceil(len(asked) * share)]:
        each = [samples.get(key) for samples in of_seeds]
        first = next(one for one in each if one)
        question = json.dumps([first.prompt, first.references], ensure_ascii=False)
        number = known.setdefault(question, len(known))
        found.append([number, [one and [one.answer, one.filtered, one.scores] for one in each]])
    return found
