"""Real engines: bottlenecks and prompts inside vLLM give what transformers and peft give, token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from peft_eval.merging.reference import reference_logits
from peft_eval.methods.tuner import register_all
from peft_eval.serving.agreement import greedy_agreement
from peft_eval.serving.engine import cpu_defaults
from peft_eval.serving.loader import with_route
from peft_eval.serving.probe import prove_effect, prove_engine
from peft_eval.serving.route import choose_route
from peft_eval.serving.virtual_tokens import with_prompt
from tests.adapters import write_adapter
from tests.serving.engine_bases import VOCABULARY, write_base
from tests.tiny import tiny_llama

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = pytest.mark.vllm
PROMPTS = [[11 + (7 * i * j + i) % 300 for j in range(3 + 2 * i)] for i in range(6)]


def with_adapter(base: Path, adapter: Path) -> Any:
    register_all()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, str(adapter)).eval()


def check(base: Path, adapter: Path, expected_route: str) -> None:
    from vllm import LLM, SamplingParams, TokensPrompt

    route = choose_route(str(adapter))
    assert route.name == expected_route
    options = {"model": str(base), "enforce_eager": True, "dtype": "float32"}
    engine = LLM(**with_route(cpu_defaults(str(base), options), route.engine))
    try:
        reference = reference_logits(adapter, base, base, served_dtype=None)
        proof = prove_effect(reference, str(adapter), None)
        proof = prove_engine(proof, reference, engine, str(adapter), route.prompt_ids)
        assert proof.verdict == "the engine serves base + adapter"
        assert proof.engine_to_adapted.largest < 1e-3 < 0.1 < proof.engine_to_base.largest
        sampling = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in with_prompt(PROMPTS, route.prompt_ids)]
        answers = [list(output.outputs[0].token_ids) for output in engine.generate(prompts, sampling, use_tqdm=False)]
    finally:
        engine.llm_engine.engine_core.shutdown()
    assert greedy_agreement(with_adapter(base, adapter), PROMPTS, answers, vocabulary=VOCABULARY).holds


def test_bottlenecks_after_both_sublayers_of_llama(tmp_path: Path) -> None:
    from peft_eval.methods.bottleneck_tuner import BottleneckConfig

    base = tiny_llama(tmp_path / "base")
    write_adapter(base, tmp_path / "adapter", BottleneckConfig(size=8), scale=0.2)
    check(base, tmp_path / "adapter", "wrapped")


def test_bottlenecks_beside_sublayers_that_are_no_module_of_their_own(tmp_path: Path) -> None:
    from peft_eval.methods.bottleneck_tuner import BottleneckConfig

    base = write_base("OPT", tmp_path / "base")
    config = BottleneckConfig(size=8, reads="input", activation="relu", scale="learned")
    write_adapter(base, tmp_path / "adapter", config, scale=0.2)
    check(base, tmp_path / "adapter", "wrapped")


def test_a_prompt_before_scaled_embeddings(tmp_path: Path) -> None:
    base = write_base("Gemma3Text", tmp_path / "base")
    write_adapter(base, tmp_path / "adapter", peft.PromptTuningConfig(num_virtual_tokens=7), scale=0.2)
    check(base, tmp_path / "adapter", "prompt")


def test_lm_evals_class_scores_as_peft_with_virtual_tokens(tmp_path: Path) -> None:
    from lm_eval.api.instance import Instance

    from peft_eval.harness.vllm_model import PeftVLLM

    base = tiny_llama(tmp_path / "base", context=64, tied=False)
    config = peft.PromptEncoderConfig(num_virtual_tokens=9, encoder_hidden_size=32)
    write_adapter(base, tmp_path / "adapter", config, scale=0.2)
    arguments = f"peft={tmp_path / 'adapter'},enforce_eager=True,dtype=float32"
    model = PeftVLLM.create_from_arg_string(arguments, {"batch_size": 1})
    try:
        assert model.max_length == 64 - 9
        pairs = [("Input: one two", " three"), ("Sort the numbers", " 1 2 3"), ("yes", " no"), ("x " * 90, "one two")]
        requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
        scores = model.loglikelihood(requests, disable_tqdm=True)
        record = model.get_model_info()["peft_eval"]
    finally:
        model.model.llm_engine.engine_core.shutdown()
    assert (record["route"], record["virtual_tokens"]) == ("prompt", 9)
    assert record["probe"]["verdict"] == "the engine serves base + adapter"
    reference = with_adapter(base, tmp_path / "adapter")
    for (context, continuation), (score, greedy) in zip(pairs, scores, strict=True):
        before, after = model._encode_pair(context, continuation)
        ids = (before + after)[-(model.max_length - 1) :]
        with torch.inference_mode():
            logits = reference(input_ids=torch.tensor([ids])).logits[0, -len(after) - 1 : -1].log_softmax(-1)
        expected = logits.gather(1, torch.tensor(after)[:, None]).sum().item()
        assert score == pytest.approx(expected, abs=1e-3)
        assert greedy == (logits.argmax(-1).tolist() == after)
