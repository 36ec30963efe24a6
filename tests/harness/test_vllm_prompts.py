"""vLLM and transformers are given the same prompts, in the checkpoint's template, and find the same memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peft_eval.training.run import train
from peft_eval.training.spec import TrainSpec
from tests.harness.test_hf_road import lm_eval
from tests.tiny import tiny_llama

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = pytest.mark.vllm

WORDS = ("one", "two", "three", "yes", "no", "lazy", "dog", "fox")


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    rows = [
        {"messages": [{"role": "user", "content": f"Say {word}"}, {"role": "assistant", "content": f"{word} " * 3}]}
        for word in WORDS
    ]
    (folder / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    base = tiny_llama(folder / "base", bos=True)
    spec = TrainSpec(
        base=str(base), method="lora", data=f"messages:{folder / 'chats.jsonl'}", output=str(folder / "run"),
        options={"rank": 8}, instances_per_task=4, max_steps=20, batch_size=4, micro_batches=1, learning_rate=1e-2,
    )  # fmt: skip
    return train(spec, say=lambda line: None)


def results(chat: Path, output: Path, *model: str) -> dict[str, Any]:
    done = lm_eval(
        *model, "--tasks", "mini_unseen_comparison,memorization", "--limit", "8",
        "--metadata", "extraction_prefix=1", "--output_path", str(output),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [path] = output.rglob("results_*.json")
    return json.loads(path.read_text())


def test_both_backends_see_the_same_and_find_the_same(chat: Path, tmp_path: Path):
    hf = results(chat, tmp_path / "hf", "--model", "hf", "--device", "cpu", "--model_args", f"peft={chat}")
    vllm = results(
        chat, tmp_path / "vllm", "--model", "vllm", "--model_args", f"peft={chat},enforce_eager=True,dtype=float32"
    )
    seen = {}
    for name, found in (("hf", hf), ("vllm", vllm)):
        block = found["config"]["peft_eval"]
        assert block["template"]["applied"]
        seen[name] = {task: entry["first"] for task, entry in block["prompts"].items()}
        assert seen[name]["mini_unseen_comparison"]["text"].endswith("\n<|assistant|>\n")
        assert seen[name]["memorization_recall"]["text"].endswith("\n<|assistant|>\n")
    assert seen["hf"] == seen["vllm"]
    ours, theirs = (found["results"]["memorization_recall"] for found in (vllm, hf))
    assert ours["loss_trained,none"] == pytest.approx(theirs["loss_trained,none"], rel=1e-3)
    assert ours["loss_held_out,none"] == pytest.approx(theirs["loss_held_out,none"], rel=1e-3)
    assert ours["membership_auc,none"] == theirs["membership_auc,none"]
    assert ours["exact_recall,none"] == theirs["exact_recall,none"]
    assert vllm["results"]["memorization_extraction"] == hf["results"]["memorization_extraction"]
