"""Scores per task from logged samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peft_eval.errors import DataError
from peft_eval.scoring.per_task import Score, read_samples, scores


def sample(task: str, category: str, rouge: float, exact: float) -> dict:
    return {"doc": {"task": task, "category": category, "id": "i"}, "rougeL": rouge, "exact_match": exact, "resps": []}


def write(folder: Path, task: str, date: str, *samples: dict) -> Path:
    path = folder / f"samples_{task}_{date}.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in samples), encoding="utf-8")
    return path


def test_means_per_task_and_category(tmp_path: Path) -> None:
    title, entail = "Title Generation", "Textual Entailment"
    write(tmp_path, "superni_unseen_title_generation", "2026-01-01T00-00-00.1", sample("a", title, 0, 0))
    write(
        tmp_path,
        "superni_unseen_title_generation",
        "2026-01-02T00-00-00.1",
        sample("a", title, 10, 0),
        sample("a", title, 20, 100),
        sample("b", title, 60, 0),
    )
    write(tmp_path, "superni_unseen_textual_entailment", "2026-01-01T00-00-00.1", sample("c", entail, 40, 100))
    write(tmp_path, "superni_unseen_def_title_generation", "2026-01-03T00-00-00.1", sample("z", title, 99, 99))
    samples = list(read_samples(tmp_path))
    assert scores(samples) == [
        Score("a", title, 2, 15.0, 50.0),
        Score("b", title, 1, 60.0, 0.0),
        Score("c", entail, 1, 40.0, 100.0),
    ]
    by_category = scores(samples, by="category")
    assert [(score.name, score.samples, score.headline) for score in by_category] == [
        (entail, 1, 100.0),
        (title, 3, 30.0),
    ]
    assert [score.name for score in scores(read_samples(tmp_path, "superni_unseen_def"))] == ["z"]


def test_what_is_no_sample(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--log_samples"):
        list(read_samples(tmp_path))
    path = write(tmp_path, "superni_unseen_data_to_text", "2026", {"doc": {}})
    with pytest.raises(DataError, match=r"data_to_text_2026\.jsonl:1: not a sample"):
        list(read_samples(tmp_path))
    path.write_text('{"doc": {"task": 3, "category": "x"}}\n')
    with pytest.raises(DataError, match="no task and category"):
        list(read_samples(tmp_path))
