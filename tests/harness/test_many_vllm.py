"""Several checkpoints through one real engine: the files are those that a run for each would have written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest

from peft_eval.methods.bottleneck_tuner import BottleneckConfig
from tests.adapters import write_adapter
from tests.harness.test_hf_road import LORA, TITLES
from tests.tiny import tiny_llama

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = pytest.mark.vllm

# What differs between two runs of anything.
TIMES = ("date", "start_time", "end_time", "total_evaluation_time_seconds", "model_name", "pretty_env_info", "config")


# The command, but its engine is killed when the first answer has been kept.
KILLED = """
import sys, psutil
from peft_eval.cli.main import main
from peft_eval.harness.answers import AnswerStore

keep, killed, process = AnswerStore.keep, [], sys.argv[1]

def keep_and_kill(self, answers):
    keep(self, answers)
    for one in [] if killed else psutil.Process().children(recursive=True):
        if process in " ".join(one.cmdline()):
            killed.append(one.kill())

AnswerStore.keep = keep_and_kill
sys.argv[:2] = ["peft-eval"]
main()
"""


def evaluate(
    superni: Path,
    output: Path,
    *checkpoints: Path,
    more: tuple[str, ...] = (),
    program: tuple[str, ...] = ("-m", "peft_eval.cli.main"),
) -> Any:
    named = [part for checkpoint in checkpoints for part in ("--checkpoint", str(checkpoint))]
    return subprocess.run(
        [sys.executable, *program, "eval", *named, "--tasks", "superni_unseen_def",
         "--metadata", f"superni={superni}", "--metadata", "superni_partial=true", "--model-args", "enforce_eager=True",
         "--model-args", "dtype=float32", "--output", str(output), *more],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def written(output: Path, checkpoint: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns a checkpoint's results and, by task, its samples."""
    [folder] = [path for path in output.iterdir() if path.is_dir() and path.name.endswith(f"__{checkpoint.name}")]
    [results] = folder.glob("results_*.json")
    samples = {path.name.rsplit("_", 1)[0]: path.read_text() for path in folder.glob("samples_*.jsonl")}
    return json.loads(results.read_text()), samples


def test_each_folder_is_what_a_run_by_itself_writes(tiny_superni: Any, tmp_path: Path) -> None:
    tiny_superni.add(TITLES, instances=5)
    base = tiny_llama(tmp_path / "base")
    names = {"lora": peft.LoraConfig(**LORA), "blocks": BottleneckConfig(size=8),
             "prompt": peft.PromptTuningConfig(num_virtual_tokens=5)}  # fmt: skip
    for name, config in names.items():
        write_adapter(base, tmp_path / name, config, scale=0.2)
    write_adapter(base, tmp_path / "idle", peft.LoraConfig(**LORA), scale=0)
    checkpoints = [tmp_path / name for name in ("blocks", "prompt", "idle", "lora")]

    many = evaluate(tiny_superni.folder, tmp_path / "many", *checkpoints)
    assert many.returncode == 1, many.stderr
    assert many.stderr.count("engine started in") == 1
    assert many.stderr.count("weights swapped in") == 3
    assert "the adapter changes nothing" in many.stdout
    assert "rougeL" in many.stdout and "(base)" in many.stdout

    alone = evaluate(tiny_superni.folder, tmp_path / "alone", tmp_path / "lora", more=("--no-answers",))
    assert alone.returncode == 0, alone.stderr
    assert "|superni_unseen_def" in alone.stdout  # lm_eval's own table
    ours, our_samples = written(tmp_path / "many", tmp_path / "lora")
    theirs, their_samples = written(tmp_path / "alone", tmp_path / "lora")
    assert our_samples == their_samples and our_samples
    assert ours["task_hashes"] == theirs["task_hashes"]
    assert {key: value for key, value in ours.items() if key not in TIMES} == {
        key: value for key, value in theirs.items() if key not in TIMES
    }
    ours, theirs = ours["config"], theirs["config"]
    block, single = ours.pop("peft_eval"), theirs.pop("peft_eval")
    assert ours == theirs
    assert block["probe"]["verdict"] == single["probe"]["verdict"] == "the engine serves base + adapter"
    assert block["prompts"] == single["prompts"]
    assert block["engine"]["how"] == "swap"
    assert block["engine"]["proof"]["engine_to_checkpoint"]["mean"] < block["engine"]["proof"]["engine_to_last"]["mean"]
    assert block["answers"] == {"asked": 5, "remembered": 0}
    plain, plain_samples = written(tmp_path / "many", base)
    assert plain["config"]["peft_eval"]["route"] == "base"
    assert plain_samples.keys() == our_samples.keys() and plain_samples != our_samples


@pytest.mark.parametrize("process", ["EngineCore", "Worker"])
def test_an_engine_that_is_killed_midway_is_started_again(process: str, tiny_superni: Any, tmp_path: Path) -> None:
    tiny_superni.add(TITLES, instances=4)
    base = tiny_llama(tmp_path / "base")
    write_adapter(base, tmp_path / "lora", peft.LoraConfig(**LORA), scale=0.2)
    one_by_one = ("--base", "--model-args", "max_num_seqs=1")
    done = evaluate(
        tiny_superni.folder, tmp_path / "out", tmp_path / "lora", more=one_by_one, program=("-c", KILLED, process)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("and was started again") == 1
    first, _ = written(tmp_path / "out", base)
    block = first["config"]["peft_eval"]
    assert "the engine died" in block["engine_restarts"][0]
    assert block["answers"]["asked"] < 4 and sum(block["answers"].values()) == 4
    second, _ = written(tmp_path / "out", tmp_path / "lora")
    assert second["config"]["peft_eval"]["answers"] == {"asked": 4, "remembered": 0}
