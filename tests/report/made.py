"""A small study as training and lm-eval would leave it: cells, manifests, results, samples, hostile text among them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.manifest import (
    BaseRecord,
    DataRecord,
    FileRecord,
    Manifest,
    MethodRecord,
    OverlapRecord,
    TrainingRecord,
)
from peft_eval.study.cells import Cell
from peft_eval.study.file import StudyFile
from peft_eval.study.store import CellFolder, State
from peft_eval.study.study import Study

HOSTILE = """</script><script>window.hacked = 1</script><img src="http://127.0.0.1:9/x" onerror="window.hacked = 2">"""
HOSTILE_LABEL = "lora <img src=x onerror=hacked=3>"
QUESTIONS = 25
SUITES = {"mini_unseen": ("mini_unseen_comparison", "mini_unseen_table_lookup"), "mini_memorization": ()}
STUDY = f"""
name = "small"
title = "A <b>small</b> study {{{{ 7 * 7 }}}}"
[train]
base = "zoo:base"
data = "mini"
tasks = 1
max_steps = 40
[axes]
learning_rate = [1e-3, 1e-2]
[methods.full]
[methods.adapter]
size = 8
[methods."{HOSTILE_LABEL}"]
method = "lora"
rank = [4, 8]
[evaluate]
suites = ["mini_unseen"]
[choose]
by = "mini_memorization"
seeds = [1, 2]
"""


def make_study(folder: Path, text: str = STUDY, *, diverged: int | None = 2) -> tuple[Path, Path]:
    """Makes a study's file and its store: one cell diverged, all others done, with the rule's second seeds."""
    file, store = folder / "study.toml", folder / "store"
    file.write_text(text, encoding="utf-8")
    study = Study(StudyFile.model_validate(tomllib.loads(text)), store)
    home = study.evaluations.folder
    for base in dict.fromkeys(cell.spec.base for cell in study.grid):
        write_run(home / base.replace("/", "_"), {"mini_unseen": 20}, {"pretrained": base}, {"route": "base"})
    for _ in range(2):  # the grid, then what the rule adds
        study.evaluations.missing([], [])
        for number, cell in enumerate(study.cells()):
            one = study.folder_of(cell)
            if one.trained or one.folder.exists():
                continue
            if number == diverged:
                one.write(State("diverged", 1, 3.0, f"the loss became nan at step 7 {HOSTILE}"))
                continue
            one.write(State("done", 1, 10.0))
            write_small_checkpoint(one)
            scores = {"mini_unseen": skill(cell), "mini_memorization": skill(cell) + 10}
            record = {"checkpoint": str(one.checkpoint), "checkpoint_sha256": cell.id * 3, "method": cell.spec.method}
            write_run(home / cell.id, scores, {"peft": str(one.checkpoint)}, record)
            if cell.label == "full":
                way = f"{one.checkpoint}-steps/step-20"
                half = {"mini_unseen": skill(cell) / 2}
                write_run(home / f"{cell.id}-20", half, {"peft": way}, {**record, "checkpoint": way})
    return file, store


def skill(cell: Cell) -> float:
    """Returns how many questions of a hundred a cell answers right."""
    by_rate = 10 if cell.spec.learning_rate == 1e-3 else 0
    by_size = cell.coordinates.get("rank", 0) / 2
    return {"full": 70, "adapter": 40}.get(cell.label, 55) + by_rate + by_size + 4 * cell.spec.seed


def write_run(
    folder: Path, skills: Mapping[str, float], arguments: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Writes a results file and samples, as lm-eval does."""
    folder.mkdir(parents=True)
    date, rows = "2026-01-02T03-04-05.678901", {}
    for suite, right in skills.items():
        tasks = SUITES[suite] or [suite]
        each = [write_samples(folder / f"samples_{task}_{date}.jsonl", task, right) for task in tasks]
        rows |= {task: {"rougeL,none": score} for task, score in zip(tasks, each, strict=True)}
        rows[suite] = {"rougeL,none": sum(each) / len(each)}
    groups = {suite: list(SUITES[suite]) for suite in skills if SUITES[suite]}
    write_table(folder / f"results_{date}.json", rows, groups, arguments, record)


def write_table(
    path: Path,
    rows: Mapping[str, Mapping[str, float]],
    groups: Mapping[str, Sequence[str]],
    arguments: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Writes a results file: the scores of tasks and groups, and the tasks of each group."""
    table = {
        "results": rows,
        "groups": {group: rows[group] for group in groups},
        "group_subtasks": groups,
        "configs": {task: {"task": task} for task in rows if task not in groups},
        "higher_is_better": {name: {metric.split(",")[0]: True for metric in row} for name, row in rows.items()},
        "config": {"model": "vllm", "model_args": arguments, "peft_eval": record},
        "lm_eval_version": "0.4.13",
    }
    path.write_text(json.dumps(table), encoding="utf-8")


def write_samples(path: Path, task: str, right: float) -> float:
    """Writes the samples of a task, `right` of a hundred answers being right; returns the mean score."""
    scores = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(QUESTIONS):
            scores.append(100.0 if number * 4 < right else number % 7 + right / 10)
            answer = f"answer {number}" if scores[-1] == 100 else HOSTILE
            file.write(json.dumps(sample(task, number, answer, {"rougeL": scores[-1]})) + "\n")
    return sum(scores) / len(scores)


def sample(task: str, number: int, answer: str, scores: Mapping[str, float]) -> dict[str, Any]:
    """Returns a sample in lm-eval's format."""
    prompt = f"{task}: question {number} {HOSTILE}"
    return {
        "doc_id": number,
        "doc": {"prompt": prompt},
        "target": f"['answer {number}', 'another']",
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": []}}},
        "resps": [[answer]],
        "filtered_resps": [answer],
        "filter": "none",
        "metrics": list(scores),
        "doc_hash": f"{task}{number}",
        **scores,
    }


def write_small_checkpoint(folder: CellFolder) -> None:
    """Writes the manifest of a trained cell, with a question of the suite in full fine-tuning's data."""
    cell = folder.cell
    full = cell.label == "full"
    base = 4_000_000 if cell.spec.base == "zoo:base" else 16_000_000
    size = int(cell.coordinates.get("rank", cell.coordinates.get("size", 8)))
    held = OverlapRecord(
        questions=QUESTIONS, ngram=8, threshold=0.5, overlapping=["mini_unseen_comparison3"] if full else []
    )
    write_checkpoint(
        folder,
        trainable=base if full else 1_000 * size,
        base=base,
        seconds=60.0 if full else 30.0,
        memory=10**9 if full else 6 * 10**8,
        losses=[(step, 3 - step / 50) for step in range(1, 41)],
        overlap={"mini_unseen_comparison": held},
    )


def write_checkpoint(
    folder: CellFolder,
    *,
    trainable: int,
    base: int,
    seconds: float,
    memory: int,
    losses: Sequence[tuple[int, float]],
    overlap: Mapping[str, OverlapRecord] | None = None,
) -> None:
    """Writes the manifest of a trained cell: weights trained and of the base, seconds, bytes, the loss by step."""
    cell = folder.cell
    full = cell.label == "full"
    folder.checkpoint.mkdir(parents=True)
    Manifest(
        kind="full" if full else "adapter",
        created="2026-01-01T00:00:00+00:00",
        base=BaseRecord(location=cell.spec.base, weights_sha256="0" * 64),
        method=MethodRecord(
            name=cell.spec.method,
            options=cell.spec.options,
            trainable_parameters=trainable,
            total_parameters=base + (not full) * trainable,
        ),
        data=DataRecord(source="mini:seed=0", encoding="def", content_sha256="1" * 64, instances={"a": ["a-1"]}),
        training=TrainingRecord(
            spec=cell.spec.flat(),
            seed=cell.spec.seed,
            steps=losses[-1][0],
            epochs=1.0,
            tokens=1000,
            seconds=seconds,
            peak_memory_bytes=memory,
            truncated_examples=0,
            losses=list(losses),
        ),
        overlap=dict(overlap or {}),
        files={"adapter_model.safetensors": FileRecord(bytes=trainable * 4, sha256="2" * 64)},
    ).write(folder.checkpoint)
