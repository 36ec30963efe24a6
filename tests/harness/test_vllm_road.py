"""`lm_eval --model vllm --model_args peft=...` with a real engine: merged while loading, proven, and the same answers
as the merged model saved to disk."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from peft_eval.errors import ProbeError
from tests.adapters import write_adapter
from tests.harness.test_hf_road import LORA, TITLES, answers, lm_eval
from tests.tiny import tiny_llama, tiny_tokenizer

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), context=8192)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    write_adapter(base, folder, peft.LoraConfig(**LORA), scale=0.2)
    return folder


def run(superni: Path, output: Path, model_args: str):
    return lm_eval(
        "--model", "vllm", "--tasks", "superni_unseen_def",
        "--model_args",
        f"{model_args},enforce_eager=True,dtype=float32",
        "--metadata", f"superni={superni}", "superni_partial=true", "--output_path", str(output), "--log_samples",
    )  # fmt: skip


def results_of(output: Path):
    [results] = output.rglob("results_*.json")
    return json.loads(results.read_text())


def test_merged_while_loading_answers_as_the_merged_model_on_disk(
    base: Path, adapter: Path, tiny_superni, tmp_path: Path
) -> None:
    tiny_superni.add(TITLES, instances=6)
    streamed = run(tiny_superni.folder, tmp_path / "streamed", f"peft={adapter}")
    assert streamed.returncode == 0, streamed.stderr

    merged = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).merge_and_unload()
    merged.save_pretrained(str(tmp_path / "merged"))
    tiny_tokenizer(tmp_path / "merged")
    # Room for a quarter of the context at 1 KiB a token: the engine takes what fits, the prompts are far shorter.
    small_cache = f"pretrained={tmp_path / 'merged'},kv_cache_memory_bytes=2000000"
    on_disk = run(tiny_superni.folder, tmp_path / "disk", small_cache)
    assert on_disk.returncode == 0, on_disk.stderr
    assert answers(tmp_path / "streamed") == answers(tmp_path / "disk")
    assert 1000 < results_of(tmp_path / "disk")["max_length"] < 2000

    results = results_of(tmp_path / "streamed")
    assert results["max_length"] == 8192
    record = results["config"]["peft_eval"]
    assert record["route"] == "merge"
    assert record["probe"]["verdict"] == "the engine serves base + adapter"
    assert record["probe"]["merge_relative"] <= 1e-5
    assert record["probe"]["engine_to_adapted"]["largest"] < 1e-3 < record["probe"]["engine_to_base"]["largest"]
    counts = record["prompts"]["superni_unseen_def_title_generation"]
    assert counts["prompts"] == 6
    assert counts["answers_at_length_limit"] <= 6


def test_an_engine_that_serves_the_base_is_caught(base: Path, adapter: Path) -> None:
    from vllm import LLM

    from peft_eval.merging.reference import reference_logits
    from peft_eval.serving.engine import cpu_defaults
    from peft_eval.serving.probe import prove_effect, prove_engine

    reference = reference_logits(adapter, base, base, served_dtype=torch.float32)
    proof = prove_effect(reference, "adapter", "float32")
    engine = LLM(**cpu_defaults(str(base), {"model": str(base), "enforce_eager": True, "dtype": "float32"}))
    with pytest.raises(ProbeError, match="serves the base, not the adapter"):
        prove_engine(proof, reference, engine, "adapter")
    del engine
