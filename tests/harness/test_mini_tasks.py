"""The mini suites run by lm-eval's own evaluator: gold scores 100, empty scores 0, averages are over instances."""

from __future__ import annotations

from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from peft_eval.data.encoding import encode_source, encoding_named
from peft_eval.data.mini.corpus import TRAIN_CATEGORIES, UNSEEN_CATEGORIES, as_superni, unseen_tasks
from peft_eval.data.superni.tracks import category_slug
from peft_eval.harness.baselines import CopyDemo, CopyInput

SIZES = {"mini_unseen": 550, "mini_memorization": 520}
CATEGORIES = {"mini_unseen": UNSEEN_CATEGORIES, "mini_memorization": TRAIN_CATEGORIES}


class Answers(CopyInput):
    """Answers what a function of the document says, and keeps what it was asked."""

    def __init__(self, answer: Any):
        super().__init__()
        self._function = answer
        self.prompts: list[str] = []
        self.options: list[dict] = []

    def _answer(self, request: Any) -> str:
        self.prompts.append(request.args[0])
        self.options.append(request.args[1])
        return self._function(request.doc)


@pytest.fixture
def run(tasks_root: Path):
    def run(model: Any, suite: str, metadata: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        manager = TaskManager(include_path=str(tasks_root / "mini"), include_defaults=False, metadata=metadata or {})
        found = simple_evaluate(model=model, tasks=[suite], task_manager=manager, **{"bootstrap_iters": 0} | options)
        assert found is not None
        return found

    return run


@pytest.mark.parametrize("suite", SIZES)
def test_gold_scores_100_in_every_category(run: Any, suite: str):
    found = run(Answers(lambda doc: f" {doc['references'][0]}\n"), suite)
    for category in CATEGORIES[suite]:
        row = found["results"][f"{suite}_{category_slug(category.name)}"]
        assert (row["rougeL,none"], row["exact_match,none"]) == (100.0, 100.0)
    assert found["results"][suite]["rougeL,none"] == 100.0
    assert sum(len(samples) for samples in found["samples"].values()) == SIZES[suite]


@pytest.mark.parametrize("suite", SIZES)
def test_empty_scores_0(run: Any, suite: str):
    found = run(Answers(lambda doc: ""), suite)
    assert {row["rougeL,none"] for row in found["results"].values()} == {0.0}
    assert {row["exact_match,none"] for row in found["results"].values()} == {0.0}


def test_the_group_is_averaged_over_instances_and_has_a_standard_error(run: Any):
    found = run(CopyDemo(), "mini_unseen", bootstrap_iters=100)
    samples = [sample for some in found["samples"].values() for sample in some]
    mean = sum(sample["rougeL"] for sample in samples) / len(samples)
    group = found["results"]["mini_unseen"]
    assert group["rougeL,none"] == pytest.approx(mean)
    assert 0 < mean < 30
    assert group["rougeL_stderr,none"] > 0
    scores = [sample["rougeL"] for sample in found["samples"]["mini_unseen_comparison"]]
    row = found["results"]["mini_unseen_comparison"]
    assert row["rougeL_stderr,none"] == pytest.approx(stdev(scores) / len(scores) ** 0.5)


def test_prompts_are_the_encoded_instances_and_decoding_is_greedy(run: Any):
    model = Answers(lambda doc: "")
    run(model, "mini_unseen", limit=1)
    encoding = encoding_named("def_pos2")
    expected = {encode_source(made, made.instances[0].input, encoding).text for made in map(as_superni, unseen_tasks())}
    assert set(model.prompts) < expected
    assert len(model.prompts) == 4
    assert all(prompt.endswith("\nOutput: ") for prompt in model.prompts)
    assert model.options[0] == {"until": [], "do_sample": False, "max_gen_toks": 32}


def test_metadata_names_another_corpus(run: Any):
    first, second, default = (Answers(lambda doc: "") for _ in range(3))
    run(first, "mini_unseen", limit=1, metadata={"mini_seed": 7})
    run(second, "mini_unseen", limit=1, metadata={"mini_seed": "7"})
    run(default, "mini_unseen", limit=1)
    assert first.prompts == second.prompts != default.prompts
