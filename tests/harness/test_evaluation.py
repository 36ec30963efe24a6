"""A checkpoint's chat template travels into evaluation, and missing data are found before a model starts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_eval import plugins
from peft_eval.errors import DataError
from peft_eval.harness import evaluation, pairwise_judge, seen_data
from peft_eval.harness.evaluation import choose_template
from peft_eval.harness.extensions import extend_all
from peft_eval.harness.suites import metadata_names
from peft_eval.resources import tasks_folder
from peft_eval.training.run import train
from peft_eval.training.spec import TrainSpec
from tests.tiny import tiny_llama

TASK = {
    "output_type": "generate_until",
    "dataset_path": "json",
    "test_split": "train",
    "doc_to_text": "Say {{word}}",
    "doc_to_target": "{{word}}",
    "num_fewshot": 0,
    "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 2},
    "metric_list": [{"metric": "exact_match"}],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), bos=True)


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "chats.jsonl"
    rows = [
        [("user", f"Say {word}"), ("assistant", word), ("user", "Again"), ("assistant", f"{word} {word}")]
        for word in ("one", "two", "three", "yes", "no", "lazy", "dog", "fox")
    ]
    lines = [json.dumps({"messages": [{"role": role, "content": text} for role, text in row]}) for row in rows]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def chat(base: Path, conversations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "chat"
    spec = TrainSpec(
        base=str(base), method="full", data=f"messages:{conversations}", output=str(folder), instances_per_task=4,
        max_steps=60, batch_size=4, micro_batches=1, learning_rate=5e-3, max_conversation_tokens=64,
    )  # fmt: skip
    return train(spec, say=lambda line: None)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from lm_eval.tasks import TaskManager

    folder = tmp_path_factory.mktemp("tasks")
    (folder / "words.jsonl").write_text('{"word": "one"}\n{"word": "fox"}\n')
    data = {"dataset_kwargs": {"data_files": str(folder / "words.jsonl")}}
    choice = {"output_type": "multiple_choice", "doc_to_choice": ["one", "fox"], "metric_list": [{"metric": "acc"}]}
    choice |= {"target_delimiter": " ", "doc_to_target": "{{word}}"}
    choice["generation_kwargs"] = None
    for name, more in {
        "plain": {},
        "prefixed": {"gen_prefix": "I say:"},
        "rendered": {"metadata": {"template": "verbatim"}, "doc_to_text": "<|user|>\nSay {{word}}\n<|assistant|>\n"},
        "choices": choice,
    }.items():
        content = {key: value for key, value in {**TASK, **data, "task": name, **more}.items() if value is not None}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    extend_all()
    return TaskManager(include_path=str(folder), include_defaults=False)


def run(tasks: Any, names: list[str], model_args: dict[str, Any], **options: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    found = simple_evaluate(
        model="hf", model_args=model_args, tasks=names, task_manager=tasks, device="cpu", bootstrap_iters=0, **options
    )
    assert found is not None
    return found["config"]["peft_eval"]


def suite(name: str, metadata: dict[str, Any]) -> Any:
    from lm_eval.tasks import TaskManager

    extend_all()
    return TaskManager(include_path=str(tasks_folder() / name), include_defaults=False, metadata=metadata)


def first_texts(block: dict[str, Any]) -> dict[str, str]:
    return {task: entry["first"]["text"] for task, entry in block["prompts"].items()}


def test_the_checkpoint_says_how_it_was_trained(chat: Path):
    from transformers import AutoTokenizer

    text = json.loads((chat / "peft_eval.json").read_text())["text"]
    assert (text["template"], text["max_conversation_tokens"], text["adds_bos"]) == ("tulu", 64, True)
    assert AutoTokenizer.from_pretrained(str(chat)).chat_template == (chat / "chat_template.jinja").read_text()


def test_its_template_is_applied_by_default_but_not_twice(chat: Path, tasks: Any):
    block = run(tasks, ["plain", "prefixed", "rendered", "choices"], {"peft": str(chat)})
    assert block["template"]["applied"] and block["template"]["reason"] == "the checkpoint was trained with it"
    assert first_texts(block) == {
        "plain": "<|user|>\nSay one\n<|assistant|>\n",
        "prefixed": "<|user|>\nSay one\n<|assistant|>\nI say:",
        "rendered": "<|user|>\nSay one\n<|assistant|>\n",
        "choices": "<|user|>\nSay one\n<|assistant|>\n",
    }
    for entry in block["prompts"].values():
        assert entry["first"]["token_ids"][0] == 0 and entry["first"]["token_ids"].count(0) == 1  # one BOS
    assert block["prompts"]["choices"]["prompts"] == 2  # each asked with two continuations
    assert block["prompts"]["choices"]["first"]["continuation"] == "one"


def test_the_users_choice_wins(chat: Path, base: Path, tasks: Any):
    off = run(tasks, ["plain", "rendered"], {"peft": str(chat)}, apply_chat_template="false")
    assert first_texts(off) == {"plain": "Say one", "rendered": "<|user|>\nSay one\n<|assistant|>\n"}
    assert off["template"] == {
        "applied": False, "reason": "switched off by --apply_chat_template", "checkpoint_template_sha256": None,
    }  # fmt: skip
    plain = run(tasks, ["plain"], {"pretrained": str(base)})
    assert first_texts(plain) == {"plain": "Say one"}


def test_who_decides_is_said(chat: Path, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert choose_template("false", str(chat)).applied is False
    assert choose_template("tool_use", str(chat)).applied == "tool_use"
    assert choose_template(True, None).reason == "asked for by --apply_chat_template"
    assert choose_template(False, None).applied is False
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert choose_template(False, str(tmp_path)).applied is False
    assert "no manifest that says whether it was trained with it" in caplog.text


def test_missing_data_are_found_before_the_model_is_started(tmp_path: Path):
    from lm_eval import simple_evaluate

    with pytest.raises(DataError, match="no Super-NaturalInstructions data here"):
        simple_evaluate(
            model="hf",
            model_args={"pretrained": str(tmp_path / "no-model-here")},
            tasks=["superni_unseen_def"],
            task_manager=suite("superni", {"superni": str(tmp_path)}),
        )


def test_memorization_of_conversations(chat: Path, conversations: Path):
    """The last answer is asked for after the whole conversation; what was not drawn is held out."""
    from lm_eval import simple_evaluate

    found = simple_evaluate(
        model="hf", model_args={"peft": str(chat)}, tasks=["memorization"], device="cpu", batch_size=8,
        task_manager=suite("memorization", {"peft": str(chat), "extraction_prefix": 1}), bootstrap_iters=0,
    )  # fmt: skip
    assert found is not None
    recall = found["results"]["memorization_recall"]
    assert recall["exact_recall,none"] == 1.0
    assert recall["membership_auc,none"] > 0.9
    first = found["config"]["peft_eval"]["prompts"]["memorization_recall"]["first"]["text"]
    assert first.startswith("<s><|user|>\nSay ") and first.endswith("</s>\n<|user|>\nAgain\n<|assistant|>\n")
    assert found["peft_eval"]["memorization_recall"]["instances"] == 8


def test_metadata_that_look_misspelt_are_told(base: Path, tasks: Any, caplog: pytest.LogCaptureFixture):
    metadata = {"superni_parial": "true", "judge_modle": "m", "mini_seed": "7", "of_my_own_task": "x", "peft": "y"}
    run(tasks, ["plain"], {"pretrained": str(base)}, metadata=metadata)
    told = [record.getMessage() for record in caplog.records if "--metadata" in record.getMessage()]
    assert [line.rpartition("mean ")[2] for line in told] == ["judge_model?", "superni_partial?"]
    run(tasks, ["plain"], {"pretrained": str(base)}, metadata=metadata)
    again = [record.getMessage() for record in caplog.records if "--metadata" in record.getMessage()]
    assert again == told  # once in a process


def test_the_suites_name_all_metadata_that_they_read():
    files = [*tasks_folder().rglob("*.py"), Path(pairwise_judge.__file__)]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    reads = r'metadata\.get\("(\w+)"', r'_(?:flag|count)\(metadata, "(\w+)"', r"(\w+): str \| None = None,\s+\*\*"
    found = {name for read in reads for name in re.findall(read, code)} | set(seen_data._READ)
    of_tasks_themselves = {"template", "num_fewshot", "measures", "data", "reads", "tasks"}
    assert metadata_names(plugins.suites()) == found - of_tasks_themselves - evaluation._OF_THE_MODEL
