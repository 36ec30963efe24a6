"""Scores without the questions that the training data holds."""

import numpy as np
import pytest

from peft_eval.checkpoint.manifest import OverlapRecord
from peft_eval.study.contamination import Overlaps, overlapping, score_without
from peft_eval.study.results import read_run
from peft_eval.training.spec import TrainSpec
from tests.study.made import write_run


def record(*questions):
    return OverlapRecord(questions=10, ngram=8, threshold=0.5, overlapping=list(questions))


def test_the_score_is_that_of_the_other_questions(tmp_path):
    write_run(tmp_path, "it", "suite", {"rougeL": np.arange(10.0)})
    run = read_run(tmp_path)
    held = {"suite": record("suite9", "suite8")}
    assert score_without(run, "suite", "rougeL,none", held) == pytest.approx(np.arange(8).mean())
    assert score_without(run, "suite", "rougeL,none", {}) == run.reported("suite", "rougeL,none")
    assert overlapping("suite", run, held) == (2, 10)
    assert overlapping("suite", run, {}) == (0, 0)


def test_what_is_found_is_kept_by_the_selection_of_data(tmp_path):
    overlaps = Overlaps(tmp_path, ("mini_unseen_comparison",), ())
    spec = TrainSpec(base="zoo:base", data="mini", output="o", tasks=2)
    assert overlaps.of(spec) == {}
    assert overlaps.look(spec, tmp_path / "log.txt")
    assert overlaps.of(spec)["mini_unseen_comparison"].questions == 150
    assert overlaps.file_of(spec.model_copy(update={"learning_rate": 1.0})) == overlaps.file_of(spec)
    assert overlaps.file_of(spec.model_copy(update={"tasks": 3})) != overlaps.file_of(spec)
    assert overlaps.is_known(spec) and not overlaps.is_known(spec.model_copy(update={"tasks": 3}))
    whole = overlaps.file_of(spec).read_bytes()
    for half in (b"", whole[: len(whole) // 2], b"[]"):  # of a write that was cut short
        overlaps.file_of(spec).write_bytes(half)
        assert not overlaps.is_known(spec) and overlaps.of(spec) == {}
    assert not Overlaps(tmp_path, ("nonsense",), ()).look(spec, tmp_path / "log.txt")
    assert "no such task" in (tmp_path / "log.txt").read_text()
