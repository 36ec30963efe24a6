"""Full fine-tuning trains every weight of the base, and nothing else."""

import torch
from transformers import AutoModelForCausalLM

from peft_eval.methods.full import FullMethod, FullOptions
from tests.tiny import tiny_llama


def test_every_weight_gets_a_gradient(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(str(tiny_llama(tmp_path)))
    model.requires_grad_(False)
    prepared = FullMethod().prepare(model, FullMethod().fit(model, FullOptions()), base_id="base")
    assert prepared is model
    prepared(torch.tensor([[5, 9, 70]])).logits.square().sum().backward()
    assert all(weight.grad is not None for weight in prepared.parameters())
