"""Results of a study that nobody ran: whole cells and lm-eval's own files, with scores drawn as a test wants them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from peft_eval.checkpoint.manifest import BaseRecord, Manifest, MethodRecord, TrainingRecord
from peft_eval.study.cells import Cell
from peft_eval.study.store import CellFolder
from peft_eval.study.study import Study

QUESTIONS = 120
Scores = Mapping[str, np.ndarray]  # metric -> (questions,)


def make_checkpoint(folder: Path, cell: Cell, losses: list[tuple[int, float]]) -> None:
    """Writes the manifest that makes a folder a trained checkpoint."""
    folder.mkdir(parents=True)
    training = TrainingRecord(
        spec={},
        seed=cell.spec.seed,
        steps=losses[-1][0],
        epochs=1.0,
        tokens=1000,
        seconds=10.0,
        peak_memory_bytes=10**9,
        truncated_examples=0,
        losses=losses,
    )
    Manifest(
        kind="full" if cell.label == "full" else "adapter",
        created="2026-01-01T00:00:00+00:00",
        base=BaseRecord(location=cell.spec.base),
        method=MethodRecord(name=cell.spec.method, trainable_parameters=1000, total_parameters=10000),
        training=training,
    ).write(folder)


def write_run(folder: Path, reference: str, suite: str, scores: Scores, number: int = 0) -> None:
    """Writes a results file and the samples of a suite of one task, as lm-eval does."""
    folder.mkdir(parents=True, exist_ok=True)
    date = (datetime(2026, 1, 1) + timedelta(seconds=number)).strftime("%Y-%m-%dT%H-%M-%S.%f")
    table = {
        "results": {suite: {f"{metric},none": float(values.mean()) for metric, values in scores.items()}},
        "configs": {suite: {}},
        "group_subtasks": {},
        "higher_is_better": {suite: dict.fromkeys(scores, True)},
        "config": {"model": "vllm", "peft_eval": {"checkpoint": reference}},
    }
    (folder / f"results_{date}.json").write_text(json.dumps(table))
    with (folder / f"samples_{suite}_{date}.jsonl").open("w") as file:
        for question in range(len(next(iter(scores.values())))):
            sample: dict[str, Any] = {"doc_id": question, "doc_hash": f"{suite}{question}", "filter": "none"}
            sample |= {"metrics": list(scores), **{name: float(values[question]) for name, values in scores.items()}}
            file.write(json.dumps(sample) + "\n")


def fill(
    study: Study,
    score: Callable[[Cell | None, str, float], float],
    *,
    seed: int = 0,
    spread: float = 8.0,
    losses: Callable[[Cell], list[tuple[int, float]]] = lambda cell: [(step, 3 - step / 50) for step in range(1, 41)],
    on_the_way: Mapping[int, float] | None = None,
) -> None:
    """Makes every cell of a study, the seeds that its rule adds included, and the answers of all suites.

    Args:
        study: the study, its store empty.
        score: the mean score of a cell (None: the base) in a suite, after a share of its training.
        spread: standard deviation of the noise of each question.
        losses: a cell's losses.
        on_the_way: kept checkpoints' steps, and after which share of the training each was.
    """
    rng = np.random.default_rng(seed)
    rule, suites = study.file.choose, study.file.evaluate.suites
    hardness = {suite: rng.normal(0, 20, QUESTIONS) for suite in [*suites, *([rule.by] if rule else [])]}
    home, number = study.evaluations.folder, iter(range(10**6))

    def ask(reference: str, cell: Cell | None, suite: str, share: float = 1.0) -> None:
        values = score(cell, suite, share) + hardness[suite] + rng.normal(0, spread, QUESTIONS)
        count = next(number)
        write_run(home / f"run{count}", reference, suite, {"rougeL": values}, count)

    def make(cell: Cell) -> None:
        folder = CellFolder(study.store, cell)
        if folder.trained:
            return
        make_checkpoint(folder.checkpoint, cell, losses(cell))
        for step, share in (on_the_way or {}).items():
            kept = folder.checkpoint.with_name("checkpoint-steps") / f"step-{step}"
            make_checkpoint(kept, cell, losses(cell)[: max(1, step)])
            ask(str(kept), cell, suites[0], share)
        for suite in hardness:
            ask(str(folder.checkpoint), cell, suite)

    for base in dict.fromkeys(cell.spec.base for cell in study.grid):
        for suite in suites:
            ask(base, None, suite)
    for cell in study.grid:
        make(cell)
    study.evaluations.missing([], [])  # looks again at what is there
    for cell in study.cells():
        make(cell)
    study.evaluations.missing([], [])
