"""Which method fits a budget, and which of those that fit are not decidedly worse than the best."""

import pytest

from peft_eval.errors import ConfigError
from peft_eval.study.budget import Budget, offers
from peft_eval.study.outcomes import Outcomes
from tests.study.made import fill
from tests.study.test_claims import SEEDS, study

METRIC = ("mini_unseen", "rougeL,none")


@pytest.fixture
def outcomes(tmp_path):
    made = study(tmp_path, "b", {"full": {}, "lora": {}, "adapter": {}, "ia3": {}}, {"seed": SEEDS}, rule=False)
    levels = {"full": 50, "lora": 40, "adapter": 40, "ia3": 20}
    memory = {"full": 8e9, "lora": 3e9, "adapter": 2e9, "ia3": 1e9}
    fill(made, lambda cell, suite, share: levels[cell.label] if cell else 10, spread=5)
    for cell in made.grid:
        manifest = next(
            arm for arm in Outcomes(made).arms if any(folder.cell.id == cell.id for folder in arm.folders)
        ).manifests[0]
        manifest.training.peak_memory_bytes = int(memory[cell.label])
        manifest.write(made.folder_of(cell).checkpoint)
    return Outcomes(made)


def told(outcomes, **limits):
    return {offer.arm.label: offer.verdict for offer in offers(outcomes, Budget(**limits), *METRIC)}


def test_what_does_not_fit_is_over_budget(outcomes):
    assert told(outcomes) == {
        "full": "best",
        "lora": "worse",
        "adapter": "worse",
        "ia3": "worse",
    }
    within = told(outcomes, memory_bytes=4e9)
    assert within["full"] == "over budget" and within["ia3"] == "worse"
    assert {within["lora"], within["adapter"]} == {"best", "not decidedly worse"}
    assert told(outcomes, memory_bytes=1.5e9)["ia3"] == "best"


def test_nothing_fits(outcomes):
    with pytest.raises(ConfigError, match=r"no method fits; the smallest by memory is ia3 with 1\.00 GB"):
        offers(outcomes, Budget(memory_bytes=1e8), *METRIC)


def test_no_scores(tmp_path):
    made = study(tmp_path, "b", {"lora": {}}, {"seed": [1]}, rule=False)
    with pytest.raises(ConfigError, match="no checkpoint has scores in mini_unseen"):
        offers(Outcomes(made), Budget(), *METRIC)
