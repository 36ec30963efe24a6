from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from peft_eval.serving.agreement import greedy_agreement
from tests.tiny import tiny_llama


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    return AutoModelForCausalLM.from_pretrained(tiny_llama(tmp_path_factory.mktemp("base")))


def greedy(model, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    done = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8, min_new_tokens=8)
    return done[0, len(prompt) :].tolist()


def test_own_answers_agree_and_a_changed_token_does_not(model) -> None:
    prompts = [[5, 9, 40, 31], [7, 3, 41, 8, 60, 2]]
    answers = [greedy(model, prompt) for prompt in prompts]
    found = greedy_agreement(model, prompts, answers, vocabulary=384)
    assert (found.identical, found.ties, found.holds) == (2, 0, True)
    answers[1][4] = (answers[1][4] + 1) % 384
    found = greedy_agreement(model, prompts, answers, vocabulary=384)
    assert (found.identical, found.ties, found.holds) == (1, 0, False)
    assert found.largest_gap > 1e-4


def test_an_id_beyond_the_vocabulary_is_no_answer(model) -> None:
    assert not greedy_agreement(model, [[5, 9]], [[384]], vocabulary=384).holds


def test_equal_logits_are_a_tie(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_llama(tmp_path))
    [first] = greedy(model, [5, 9, 40])[:1]
    other = (first + 1) % 384
    weight = model.get_input_embeddings().weight.data  # tied to the output layer
    weight[other] = weight[first] * (1 - 1e-7)
    found = greedy_agreement(model, [[5, 9, 40]], [[other]], vocabulary=384)
    assert found.holds and found.identical + found.ties == 1
