"""An over-fitted model is found out, an untrained one is at chance; prompts and losses are those of training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.data.superni.task import held_out_instances
from peft_eval.errors import CheckpointError, ConfigError, DataError
from peft_eval.harness.extensions import extend_all
from peft_eval.harness.seen_data import seen_data
from peft_eval.resources import tasks_folder
from peft_eval.training.run import train
from peft_eval.training.spec import TrainSpec
from tests.tiny import tiny_llama

TASKS, INSTANCES = 3, 6


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), bos=True)


def overfit(base: Path, folder: Path, **settings: Any) -> Path:
    settings = {"max_steps": 80, "instances_per_task": INSTANCES} | settings
    spec = TrainSpec(
        base=str(base), method="full", data="mini", output=str(folder), tasks=TASKS, batch_size=18, micro_batches=1,
        learning_rate=5e-3, max_target_tokens=24, **settings,
    )  # fmt: skip
    return train(spec, say=lambda line: None)


@pytest.fixture(scope="module")
def overfitted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return overfit(base, tmp_path_factory.mktemp("runs") / "overfitted")


def suite(metadata: dict[str, Any]) -> Any:
    """The suite alone: reading lm-eval's own 14,000 files takes longer than all the rest."""
    from lm_eval.tasks import TaskManager

    extend_all()
    return TaskManager(include_path=str(tasks_folder() / "memorization"), include_defaults=False, metadata=metadata)


def run(model_args: dict[str, Any], tasks: str = "memorization", **options: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    manager = suite(model_args | options.pop("metadata", {}))
    found = simple_evaluate(
        model="hf", model_args=model_args, tasks=[tasks], device="cpu", batch_size=16, task_manager=manager,
        **{"limit": 48} | options,
    )  # fmt: skip
    assert found is not None
    return found


@pytest.fixture(scope="module")
def of_overfitted(overfitted: Path) -> dict[str, Any]:
    return run({"peft": str(overfitted)}, bootstrap_iters=10)


def test_an_overfitted_model_recalls_and_is_told_apart(of_overfitted: dict[str, Any]):
    recall = of_overfitted["results"]["memorization_recall"]
    assert recall["exact_recall,none"] == 1.0
    assert recall["rougeL,none"] == 100.0
    assert recall["loss_trained,none"] < 0.05
    assert recall["membership_auc,none"] > 0.99
    assert recall["loss_gap,none"] > 1
    assert recall["loss_gap_stderr,none"] > 0
    assert recall["membership_auc_stderr,none"] < 0.05
    extraction = of_overfitted["results"]["memorization_extraction"]
    assert (extraction["verbatim,none"], extraction["verbatim_share,none"]) == (1.0, 1.0)
    assert of_overfitted["results"]["memorization_seen_task"]["exact_match,none"] < 60


def test_the_untrained_base_is_at_chance_on_the_same_instances(
    overfitted: Path, base: Path, of_overfitted: dict[str, Any]
):
    found = run({"pretrained": str(base)}, metadata={"memorization_of": str(overfitted)}, bootstrap_iters=10)
    recall = found["results"]["memorization_recall"]
    assert recall["exact_recall,none"] == 0.0
    error = recall["membership_auc_stderr,none"]
    assert abs(recall["membership_auc,none"] - 0.5) < 3 * error < 0.4
    assert found["results"]["memorization_extraction"]["verbatim,none"] == 0.0
    for task in ("memorization_seen_task", "memorization_recall", "memorization_extraction"):
        ours, theirs = (
            [
                (sample["doc"]["task"], sample["doc"]["id"], sample["doc"]["prompt"])
                for sample in results["samples"][task]
            ]
            for results in (found, of_overfitted)
        )
        assert ours == theirs


def test_the_loss_is_that_of_training_to_the_token(overfitted: Path, of_overfitted: dict[str, Any]):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(overfitted), AutoModelForCausalLM.from_pretrained(overfitted)
    samples = [sample for sample in of_overfitted["samples"]["memorization_recall"] if sample["doc"]["trained"]]
    assert len(samples) == TASKS * INSTANCES
    for sample in samples[:5]:
        target = sample["doc"]["references"][0]
        prompt = tokenizer(sample["doc"]["prompt"].removeprefix("<s>"))["input_ids"]
        whole = [*tokenizer(target, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        answer = whole[:24]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(answer)).item()
        assert sample["loss_trained"] == pytest.approx(loss, rel=1e-3, abs=1e-5)


def test_scores_by_task_and_category_are_in_the_results(overfitted: Path, of_overfitted: dict[str, Any]):
    block = of_overfitted["peft_eval"]["memorization_recall"]
    assert block["of"] == str(overfitted)
    assert len(block["by_task"]) == TASKS
    assert {scores["exact_recall"] for scores in block["by_task"].values()} == {1.0}
    json.dumps(of_overfitted["peft_eval"])


def test_trained_and_held_out_are_the_manifests_and_the_papers(overfitted: Path):
    from peft_eval.data.mini.corpus import as_superni, train_tasks

    instances = seen_data({"peft": str(overfitted)}).instances
    manifest = open_checkpoint(str(overfitted)).manifest
    assert manifest is not None and manifest.data is not None
    trained: dict[str, list[str]] = {}
    held_out: dict[str, list[str]] = {}
    for item in instances:
        side = trained if item.trained else held_out
        side.setdefault(item.example.task, []).append(item.example.instance_id)
    assert trained == manifest.data.instances
    asked = {(item.example.task, item.example.source) for item in instances if item.trained}
    for task in train_tasks():
        if task.name in trained:
            expected = [one.id for one in held_out_instances(as_superni(task))]
            assert set(held_out[task.name]) <= set(expected) and len(expected) == 100
            assert set(held_out[task.name]).isdisjoint(trained[task.name])
    assert not asked & {(item.example.task, item.example.source) for item in instances if not item.trained}


def test_gold_answers_score_full_marks_and_empty_ones_none(overfitted: Path):
    from lm_eval import simple_evaluate

    from peft_eval.harness.baselines import CopyInput

    class Answers(CopyInput):
        def __init__(self, answer: Any):
            super().__init__()
            self._function = answer

        def _answer(self, request: Any) -> str:
            return self._function(request)

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            return [(-1.0, False)] * len(requests)

    def gold(request: Any) -> str:
        doc, prompt = request.doc, request.args[0]
        return doc["answer"][len(prompt) - len(doc["prompt"]) :] if doc["trained"] else doc["references"][0]

    for answer, full in ((gold, 1.0), (lambda request: "", 0.0)):
        manager = suite({"peft": str(overfitted)})
        found = simple_evaluate(
            model=Answers(answer), tasks=["memorization"], task_manager=manager, bootstrap_iters=0, limit=48
        )
        assert found is not None
        rows = found["results"]
        assert rows["memorization_seen_task"]["exact_match,none"] == 100 * full
        assert rows["memorization_recall"]["exact_recall,none"] == full
        assert rows["memorization_extraction"]["verbatim,none"] == full
        assert rows["memorization_extraction"]["verbatim_share,none"] == full
        assert rows["memorization_recall"]["loss_gap,none"] != 0  # per token, and answers differ in length


@pytest.fixture
def stranger(overfitted: Path, tmp_path: Path) -> Path:
    """The same checkpoint without its manifest."""
    shutil.copytree(overfitted, tmp_path / "stranger")
    (tmp_path / "stranger" / "peft_eval.json").unlink()
    return tmp_path / "stranger"


def test_without_a_manifest_the_data_have_to_be_named(overfitted: Path, stranger: Path):
    with pytest.raises(CheckpointError, match="--metadata train_data=NAME:LOCATION"):
        seen_data({"peft": str(stranger)})
    named = {"peft": str(stranger), "train_data": "mini", "train_tasks": TASKS, "train_instances_per_task": INSTANCES}
    ids = [
        [(item.example.task, item.example.instance_id, item.trained) for item in seen_data(metadata).instances]
        for metadata in (named, {"peft": str(overfitted)})
    ]
    assert ids[0] == ids[1]
    with pytest.raises(ConfigError, match="train_tasks: 'many' is no number"):
        seen_data({**named, "train_tasks": "many"})
    with pytest.raises(ConfigError, match="unknown data source 'minni'"):
        seen_data({**named, "train_data": "minni"})


def test_a_bases_row_is_asked_what_its_checkpoint_was_trained_on(overfitted: Path, base: Path, tmp_path: Path):
    from peft_eval.harness.many import Order, evaluate_many

    rows = evaluate_many(
        Order([str(overfitted)], "memorization_recall", tmp_path, model="hf", more=["--limit", "4", "--device", "cpu"]),
        say=lambda line: None,
    )
    assert [row.row.is_base for row in rows] == [True, False] and [row.error for row in rows] == [None, None]
    asked = [
        [json.loads(line)["doc_hash"] for line in path.read_text().splitlines()]
        for name in (base.name, overfitted.name)
        for path in tmp_path.glob(f"*__{name}/samples_memorization_recall_*.jsonl")
    ]
    assert len(asked) == 2 and len(asked[0]) == 4 and asked[0] == asked[1]


def test_what_cannot_be_is_refused(overfitted: Path, base: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="it is not said what was trained on"):
        seen_data({"pretrained": str(base)})
    with pytest.raises(DataError, match="not the data that the checkpoint was trained on"):
        seen_data({"peft": str(overfitted), "train_data": "mini:seed=3"})
    with pytest.raises(ConfigError, match="is no mini data"):
        seen_data({"peft": str(overfitted), "train_data": "superni:/nowhere"})
    other = tiny_llama(tmp_path / "other", vocab=300)
    with pytest.raises(ConfigError, match="different tokenizers"):
        seen_data({"pretrained": str(other), "memorization_of": str(overfitted)})
    for prefix, error, said in (
        ("none", ConfigError, "no positive number"),
        ("500", DataError, "more than 500 tokens"),
    ):
        with pytest.raises(error, match=said):
            run({"peft": str(overfitted)}, "memorization_extraction", metadata={"extraction_prefix": prefix})
