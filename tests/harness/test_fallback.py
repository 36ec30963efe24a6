"""`--model vllm` with a checkpoint that vLLM does not serve: lm-eval's HF class takes over, in the same command."""

from __future__ import annotations

import logging
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from peft_eval.errors import RouteError
from tests.adapters import write_adapter
from tests.tiny import tiny_llama

pytest.importorskip("vllm", reason="vLLM is not installed")
PAIRS = [("Input: one two", " three"), ("Sort the numbers from small to large", " 1 2 3"), ("yes", " no")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def prefix(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prefix")
    write_adapter(base, folder, peft.PrefixTuningConfig(num_virtual_tokens=5), scale=0.5)
    return folder


def test_prefix_tuning_runs_on_hf_and_says_so(base: Path, prefix: Path, caplog: pytest.LogCaptureFixture) -> None:
    from lm_eval.api.instance import Instance

    from peft_eval.harness.hf_model import PeftHFLM
    from peft_eval.harness.vllm_model import PeftVLLM

    with caplog.at_level(logging.WARNING):
        model = PeftVLLM.create_from_arg_string(
            f"peft={prefix},enforce_eager=True,dtype=float32,max_model_len=128", {"batch_size": 3, "device": "cpu"}
        )
    assert isinstance(model, PeftHFLM)
    assert model.max_length == 128
    assert f"{prefix} runs on --model hf: " in caplog.text
    assert "leaves out: enforce_eager=True" in caplog.text
    record = model.get_model_info()["peft_eval"]
    assert (record["route"], record["backend"]) == ("hf", "hf")
    assert "PREFIX_TUNING" in record["route_reason"]

    requests = [Instance("loglikelihood", {}, pair, 0) for pair in PAIRS]
    scores = model.loglikelihood(requests, disable_tqdm=True)
    reference = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(prefix)).eval()
    for pair, (score, _) in zip(PAIRS, scores, strict=True):
        before, after = model._encode_pair(*pair)
        with torch.inference_mode():
            logits = reference(input_ids=torch.tensor([before + after])).logits[0, -len(after) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(after)[:, None]).sum().item()
        assert score == pytest.approx(expected, abs=1e-3)


def test_the_class_itself_refuses_what_only_the_command_can_hand_over(prefix: Path) -> None:
    from peft_eval.harness.vllm_model import PeftVLLM

    with pytest.raises(RouteError, match=r"vLLM does not serve it: .*\(use lm_eval --model hf\)"):
        PeftVLLM(peft=str(prefix))
