"""The papers' claims on data made so that the answer is known: held, not held, and too little to tell."""

import json

import pytest
from click.testing import CliRunner

from peft_eval.cli.main import cli
from peft_eval.study.claim_tests import (
    close_to_full,
    largest_is_best,
    learns_slower,
    memorizes_less,
    needs_more_tasks,
    struggle_when_tuning_is_scarce,
    unstable_at_high_rate_or_size,
)
from peft_eval.study.claims import CLAIMS
from peft_eval.study.file import StudyFile
from peft_eval.study.outcomes import Outcomes
from peft_eval.study.study import Study
from tests.study.made import fill

SEEDS = [1, 2, 3]


def study(tmp_path, name, methods, axes, *, rule=True, suites=("mini_unseen",)):
    choose = {"by": "mini_memorization", "seeds": SEEDS} if rule else None
    file = StudyFile.model_validate(
        {
            "name": name,
            "train": {"base": "zoo:base", "data": "mini", "max_steps": 40},
            "axes": axes,
            "methods": methods,
            "evaluate": {"suites": list(suites), "curve": ["mini_unseen"]},
            "choose": choose,
        }
    )
    return Study(file, tmp_path)


def verdict(decide, made):
    return decide(Outcomes(made))


RATES = {"learning_rate": [1e-4, 1e-3]}


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({"full": 50, "lora": 49.8, "adapter": 50.2, "ia3": 30, None: 10}, "held"),
        ({"full": 50, "lora": 38, "adapter": 50, "ia3": 30, None: 10}, "not held"),
        ({"full": 50, "lora": 50, "adapter": 50, "ia3": 50, None: 10}, "not held"),
        ({"full": 50, "lora": 46, "adapter": 46, "ia3": 46, None: 10}, "not decided"),
        ({"full": 10, "lora": 50, "adapter": 50, "ia3": 30, None: 10.5}, "not decided"),  # full gains nothing
    ],
)
def test_only_lora_and_adapter_come_close(tmp_path, levels, expected):
    made = study(tmp_path, "instruction_tuning_lr", {"full": {}, "lora": {}, "adapter": {}, "ia3": {}}, RATES)
    fill(made, lambda cell, suite, share: levels[cell.label if cell else None], spread=6)
    assert verdict(close_to_full, made).verdict == expected


@pytest.mark.parametrize(
    ("gain", "expected"), [({4: 0, 16: 4, 64: 8}, "held"), ({4: 8, 16: 4, 64: 0}, "not held"), ({}, "not decided")]
)
def test_the_largest_size(tmp_path, gain, expected):
    methods = {"lora": {"rank": [4, 16, 64]}, "adapter": {"size": [4, 16, 64]}}
    made = study(tmp_path, "instruction_tuning_rank", methods, RATES)

    def score(cell, suite, share):
        size = cell and (cell.coordinates.get("rank") or cell.coordinates.get("size"))
        return 30 + gain.get(size, 0)

    fill(made, score)
    assert verdict(largest_is_best, made).verdict == expected


@pytest.mark.parametrize(("high", "low", "expected"), [(True, False, "held"), (False, False, "not held")])
def test_stability(tmp_path, high, low, expected):
    methods = {"lora": {"rank": [2, 4, 8, 16]}, "adapter": {"size": [2, 4, 8, 16]}}
    made = study(tmp_path, "r", methods, {"learning_rate": [1e-4, 3e-4, 1e-3, 3e-3], "seed": SEEDS}, rule=False)

    def losses(cell):
        size = cell.coordinates.get("rank") or cell.coordinates.get("size")
        bad = high if cell.spec.learning_rate == 3e-3 or size == 16 else low
        jump = 5.0 if bad else 0.0
        return [(step, 3 - step / 50 + (jump if step in (20, 21) else 0) + 0.02 * (step % 3)) for step in range(1, 41)]

    fill(made, lambda cell, suite, share: 30, losses=losses)
    result = verdict(unstable_at_high_rate_or_size, made)
    assert result.verdict == expected
    assert ("42 of 42" if high else "0 of 42") in result.numbers


@pytest.mark.parametrize(("few", "expected"), [(20, "held"), (31, "not decided"), (40, "not held")])
def test_more_tasks(tmp_path, few, expected):
    axes = {"tasks": [4, 52], "seed": SEEDS}
    made = study(tmp_path, "instruction_tuning_tasks", {"full": {}, "lora": {}}, axes, rule=False)

    def score(cell, suite, share):
        return 10 if cell is None else few if (cell.label, cell.coordinates["tasks"]) == ("lora", 4) else 31

    fill(made, score, spread=5)
    assert verdict(needs_more_tasks, made).verdict == expected


@pytest.mark.parametrize(("early", "expected"), [(12, "held"), (20, "not decided"), (28, "not held")])
def test_slower_learning(tmp_path, early, expected):
    made = study(tmp_path, "instruction_tuning_lr", {"full": {}, "lora": {}}, RATES)

    def score(cell, suite, share):
        return 10 if cell is None else 40 if share == 1 else early if cell.label == "lora" else 20

    fill(made, score, spread=5, on_the_way={10: 0.25, 30: 0.75})
    result = verdict(learns_slower, made)
    assert result.verdict == expected and "step 10" in result.numbers


@pytest.mark.parametrize(("lora", "expected"), [(30, "held"), (40, "not decided"), (50, "not held")])
def test_memory(tmp_path, lora, expected):
    made = study(
        tmp_path, "m", {"full": {}, "lora": {}}, {"seed": SEEDS}, rule=False, suites=["memorization_seen_task"]
    )
    fill(made, lambda cell, suite, share: 10 if cell is None else lora if cell.label == "lora" else 40, spread=5)
    assert verdict(memorizes_less, made).verdict == expected


@pytest.mark.parametrize(("unlucky", "expected"), [(20, "held"), (50, "not decided")])
def test_scarce_tuning(tmp_path, unlucky, expected):
    made = study(tmp_path, "fifteen_methods", {"lora": {}, "ia3": {}}, {"learning_rate": [1e-4, 1e-3, 1e-2]})

    def score(cell, suite, share):
        if cell is None or cell.label == "lora":
            return 40
        return 50 if cell.spec.learning_rate == 1e-3 else unlucky

    fill(made, score, spread=5)
    assert verdict(struggle_when_tuning_is_scarce, made).verdict == expected


def test_a_claim_without_its_study_is_not_decided(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "other"\n[train]\nbase = "zoo:base"\ndata = "mini"\n'
        '[methods.lora]\n[evaluate]\nsuites = ["mini_unseen"]\n'
    )
    result = CliRunner().invoke(cli, ["study", "claims", str(path), "--store", str(tmp_path), "--json"])
    found = json.loads(result.stdout)
    assert [one["claim"] for one in found] == [claim.text for claim in CLAIMS]
    assert {one["verdict"] for one in found} == {"not decided"}
    assert all("is not among the results" in one["numbers"] for one in found)
