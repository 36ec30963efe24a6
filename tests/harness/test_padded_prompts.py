"""Answers of adapters with virtual tokens do not depend on what else is in the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from peft_eval.harness.padded_prompts import count_positions_by_mask
from tests.adapters import write_adapter
from tests.tiny import tiny_llama

PROMPTS = [[5, 9, 40, 31], [7, 3, 41, 8, 60, 22, 90], [100, 44]]
NEW_TOKENS = 6


def generated(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    longest = max(map(len, prompts))
    ids = torch.tensor([[2] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    done = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS,
        pad_token_id=2,
    )  # fmt: skip
    return done[:, longest:].tolist()


def one_by_one(model: Any, prompt: list[int]) -> list[int]:
    """Greedy text from whole forward passes: no padding, no cache."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(NEW_TOKENS):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    "config",
    [
        peft.PromptTuningConfig(num_virtual_tokens=5),
        peft.PromptEncoderConfig(num_virtual_tokens=5, encoder_hidden_size=32),
        peft.PrefixTuningConfig(num_virtual_tokens=5),
    ],
    ids=["prompt", "p-tuning", "prefix"],
)
def test_a_padded_batch_answers_as_each_prompt_alone(config: Any, tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    write_adapter(base, tmp_path / "adapter", config, scale=0.5)
    model: Any = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "adapter"))
    model.eval()
    expected = [one_by_one(model, prompt) for prompt in PROMPTS]
    count_positions_by_mask(model)
    assert generated(model, PROMPTS) == expected
