"""LoRA starts as the base, trains its own weights alone, and refuses what does not fit."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from peft_eval.errors import ConfigError, ManyErrors
from peft_eval.methods.lora import LoraMethod, LoraOptions, default_targets
from tests.tiny import tiny_llama

PROMPT = torch.tensor([[5, 9, 70, 81, 33, 12]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(folder):
    return AutoModelForCausalLM.from_pretrained(str(folder))


@pytest.mark.parametrize("changed", [{}, {"rslora": True}, {"dora": True}, {"init": "gaussian"}, {"alpha": 3.0}])
@torch.no_grad()
def test_first_step_is_the_base(model, changed):
    before = model(PROMPT).logits
    method = LoraMethod()
    adapted = method.prepare(model, method.fit(model, LoraOptions(rank=4, **changed)), base_id="base").eval()
    torch.testing.assert_close(adapted(PROMPT).logits, before, rtol=0, atol=1e-5)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.fill_(0.1)
    assert (adapted(PROMPT).logits - before).abs().max() > 0.01


def test_only_its_own_weights_get_gradients(model):
    method = LoraMethod()
    adapted = method.prepare(model, method.fit(model, LoraOptions(rank=4, targets=["all-linear"])), base_id="base")
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    adapted(PROMPT).logits.square().sum().backward()
    with_gradient = {name for name, weight in adapted.named_parameters() if weight.grad is not None}
    assert with_gradient == {name for name, _ in adapted.named_parameters() if ".lora_" in name}
    assert len(with_gradient) == 2 * 7 * 2  # A and B of seven linear layers, two blocks
    assert not any("lm_head" in name for name in with_gradient)


def test_scale_follows_peft(model):
    method = LoraMethod()
    plain = method.prepare(model, method.fit(model, LoraOptions(rank=16, alpha=8)), base_id="base")
    layer = plain.base_model.model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == 8 / 16
    assert plain.peft_config["default"].base_model_name_or_path == "base"


def test_defaults_are_the_papers():
    options = LoraOptions(rank=32)
    assert (options.alpha, options.dropout, options.rslora, options.dora) == (32, 0.1, False, False)
    assert LoraOptions().alpha == LoraOptions().rank == 64
    assert LoraMethod.training_defaults["learning_rate"] == 5e-4


def test_default_targets(model):
    assert LoraMethod().fit(model, LoraOptions(rank=4)).targets == ["q_proj", "v_proj"]
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32, n_positions=32))
    assert default_targets(gpt2) == ["c_attn"]
    assert LoraMethod().fit(gpt2, LoraOptions(rank=4)).targets == ["c_attn"]


def test_targets_that_match_nothing_are_refused_with_near_names(model):
    with pytest.raises(ManyErrors) as caught:
        LoraMethod().fit(model, LoraOptions(rank=4, targets=["qproj", "q_proj", "zzz"]))
    text = str(caught.value)
    assert "no linear layer is called 'qproj' (did you mean q_proj" in text
    assert "'zzz' (linear layers here: down_proj, gate_proj, k_proj" in text


def test_rank_above_the_dimension_is_refused(model):
    with pytest.raises(ConfigError, match=r"rank 65 exceeds .*q_proj.*use at most 64"):
        LoraMethod().fit(model, LoraOptions(rank=65))


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "corda", "loftq"])
def test_inits_that_change_the_base_are_refused(init):
    with pytest.raises(ValueError, match="changed base weights"):
        LoraOptions(init=init)


@pytest.mark.parametrize("bad", [{"rank": 0}, {"dropout": 1.0}, {"init": "zeros"}, {"targets": []}, {"ranks": 3}])
def test_bad_options_are_refused(bad):
    with pytest.raises(ValueError):
        LoraOptions(**bad)
