"""`lm_eval --model hf --model_args peft=...`: no base named, the adapter applied, errors in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import peft
import pytest

from tests.adapters import write_adapter
from tests.tiny import tiny_llama

LM_EVAL = Path(sys.executable).parent / "lm_eval"
TITLES = "task1356_xlsum_title_generation"
LORA = dict(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def superni(tiny_superni) -> Path:
    tiny_superni.add(TITLES, instances=3)
    return tiny_superni.folder


def lm_eval(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LM_EVAL), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def run(superni: Path, output: Path, model_args: str) -> subprocess.CompletedProcess[str]:
    return lm_eval(
        "--model", "hf", "--tasks", "superni_unseen_def", "--model_args", model_args, "--device", "cpu",
        "--metadata", f"superni={superni}", "superni_partial=true", "--output_path", str(output), "--log_samples",
    )  # fmt: skip


def answers(output: Path) -> list[str]:
    [samples] = output.rglob("samples_superni_unseen_def_title_generation_*.jsonl")
    return [json.loads(line)["resps"][0][0] for line in samples.read_text().splitlines()]


def test_the_adapter_needs_no_base_named_and_changes_the_answers(base: Path, superni: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "adapter", peft.LoraConfig(**LORA), scale=0.2)
    adapted = run(superni, tmp_path / "adapted", f"peft={tmp_path / 'adapter'}")
    assert adapted.returncode == 0, adapted.stderr
    plain = run(superni, tmp_path / "plain", f"pretrained={base}")
    assert plain.returncode == 0, plain.stderr
    assert answers(tmp_path / "adapted") != answers(tmp_path / "plain")

    [results] = (tmp_path / "adapted").rglob("results_*.json")
    record = json.loads(results.read_text())["config"]["peft_eval"]
    assert record["route"] == "hf"
    assert record["probe"]["effect"]["largest"] > 0
    assert record["prompts"]["superni_unseen_def_title_generation"]["prompts"] == 3
    assert record["prompts"]["superni_unseen_def_title_generation"]["first"]["token_ids"]


def test_an_adapter_that_changes_nothing_ends_the_run(base: Path, superni: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "adapter", peft.LoraConfig(**LORA), scale=0)
    done = run(superni, tmp_path / "out", f"peft={tmp_path / 'adapter'}")
    assert done.returncode == 2
    assert "error: " in done.stderr.splitlines()[-1]
    assert "changes nothing" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_missing_tasks_are_named_in_one_line(superni: Path, tmp_path: Path) -> None:
    done = lm_eval("--model", "copy-input", "--tasks", "superni_unseen_def", "--metadata", f"superni={superni}")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "task1342_amazon_us_reviews_title" in done.stderr


def test_model_args_go_before_options_of_lm_eval(base: Path) -> None:
    from peft_eval.harness.hf_model import PeftHFLM

    options = {"device": "cuda:7", "batch_size": 1, "max_batch_size": None}
    model = PeftHFLM.create_from_arg_string(f"pretrained={base},device=cpu,batch_size=3", options)
    assert (model.device.type, model.batch_size) == ("cpu", 3)
