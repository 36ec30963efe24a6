from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from peft_eval.checkpoint.reading import read_json
from peft_eval.errors import BaseMismatchError, CheckpointError, RouteError
from peft_eval.serving.virtual_tokens import (
    hide_virtual_tokens,
    read_prompt,
    with_prompt,
    with_prompt_rows,
    without_prompt,
)
from tests.adapters import write_adapter
from tests.tiny import tiny_llama


def enlarged(base: Path, prompt: torch.Tensor, rows: int) -> dict[str, torch.Tensor]:
    return dict(with_prompt_rows(load_file(base / "model.safetensors").items(), prompt, base, rows))


@pytest.mark.parametrize("tied", [True, False])
def test_the_prompt_is_appended_to_the_embedding_and_nothing_else_changes(tied: bool, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path, tied=tied)
    plain, prompt = load_file(base / "model.safetensors"), torch.randn(5, 64)
    found = enlarged(base, prompt, 8)
    embedding = found.pop("model.embed_tokens.weight")
    assert torch.equal(embedding[:384], plain["model.embed_tokens.weight"])
    assert torch.equal(embedding[384:389], prompt)
    assert torch.equal(embedding[389:], torch.zeros(3, 64))
    if not tied:
        output = found.pop("lm_head.weight")
        assert torch.equal(output[:384], plain["lm_head.weight"]) and output.shape == (392, 64)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in found.items())


def test_a_stream_without_the_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model\.embed_tokens\.weight"):
        dict(with_prompt_rows([("model.norm.weight", torch.ones(64))], torch.ones(1, 64), tiny_llama(tmp_path), 1))


@pytest.mark.parametrize(
    "config",
    [
        peft.PromptTuningConfig(num_virtual_tokens=4),
        peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=32),
    ],
    ids=["prompt", "p-tuning"],
)
def test_the_saved_prompt_is_what_peft_computes(config: peft.PeftConfig, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = tiny_llama(tmp_path / "base")
    write_adapter(base, tmp_path / "adapter", config, scale=0.2)
    prompt = read_prompt(tmp_path / "adapter", read_json(base / "config.json"))
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "adapter"))
    assert torch.equal(prompt, model.get_prompt(batch_size=1)[0].detach())


def test_what_is_no_prompt_for_this_base_is_refused(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    config = read_json(base / "config.json")
    write_adapter(base, tmp_path / "prefix", peft.PrefixTuningConfig(num_virtual_tokens=4))
    with pytest.raises(RouteError, match="PREFIX_TUNING trains no embeddings of virtual tokens"):
        read_prompt(tmp_path / "prefix", config)
    write_adapter(base, tmp_path / "prompt", peft.PromptTuningConfig(num_virtual_tokens=4))
    with pytest.raises(BaseMismatchError, match="have 64 numbers, the base's 128"):
        read_prompt(tmp_path / "prompt", config | {"hidden_size": 128})
    file = tmp_path / "prompt" / "adapter_model.safetensors"
    save_file({"prompt_embeddings": load_file(file)["prompt_embeddings"] * torch.nan}, file)
    with pytest.raises(CheckpointError, match="NaN"):
        read_prompt(tmp_path / "prompt", config)


def test_virtual_tokens_take_no_probability() -> None:
    class Head(nn.Module):
        def compute_logits(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden

    model, logits = Head(), torch.randn(2, 10)
    hide_virtual_tokens(model, 7)
    hidden = model.compute_logits(logits.clone())
    assert torch.equal(hidden.log_softmax(-1)[:, :7], logits[:, :7].log_softmax(-1))
    assert (hidden[:, 7:] == -torch.inf).all()
    assert type(model).__name__ == "Head"


def test_positions_are_those_of_the_prompt_as_it_was_given() -> None:
    assert with_prompt([[5, 6], [7]], (100, 101)) == [[100, 101, 5, 6], [100, 101, 7]]
    answer = SimpleNamespace(prompt_token_ids=[100, 101, 5, 6], prompt_logprobs=[None, {101: 0}, {5: -1.0}, {6: -2.0}])
    without_prompt(answer, 2)
    assert answer.prompt_token_ids == [5, 6]
    assert answer.prompt_logprobs == [None, {6: -2.0}]
