"""BitFit trains the biases there are and zero biases where there are none."""

import pytest
import torch

from peft_eval.errors import ConfigError
from peft_eval.methods.bitfit import BitFitMethod
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import PROMPT, forward, tiny


def trained_modules(model):
    return {
        name.removeprefix("base_model.model.").removesuffix(".bitfit_bias.default")
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def test_default_modules_are_linear_layers_and_norms_with_a_bias():
    llama = trained_modules(adapt(BitFitMethod(), tiny("llama")))
    leaves = {name.rpartition(".")[2] for name in llama}
    assert leaves == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(llama) == 7 * 2
    opt = {name.rpartition(".")[2] for name in trained_modules(adapt(BitFitMethod(), tiny("opt")))}
    assert opt >= {"fc1", "fc2", "q_proj", "self_attn_layer_norm", "final_layer_norm"}
    assert "lm_head" not in opt


@pytest.mark.parametrize("architecture", ["llama", "opt", "gpt2", "gpt_neox"])
@torch.no_grad()
def test_is_the_base_with_those_biases(architecture):
    """The same numbers come from writing the biases into a plain model."""
    model = adapt(BitFitMethod(), tiny(architecture))
    disturb(model, 0.2)
    plain = tiny(architecture)
    for name in trained_modules(model):
        module = plain.get_submodule(name)
        change = model.base_model.model.get_submodule(name).bitfit_bias["default"]
        module.bias = torch.nn.Parameter(change if module.bias is None else module.bias + change)
    torch.testing.assert_close(forward(model), forward(plain), rtol=0, atol=1e-5)
    assert (forward(model) - forward(tiny(architecture))).abs().max() > 1e-2


@torch.no_grad()
def test_unmerging_leaves_no_bias_behind_where_there_was_none():
    model = adapt(BitFitMethod(), tiny("llama"))
    disturb(model)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    model.merge_adapter()
    assert torch.equal(layer.base_layer.bias, layer.bitfit_bias["default"])
    model.unmerge_adapter()
    assert layer.base_layer.bias is None
    assert layer.bitfit_bias["default"].any()


@torch.no_grad()
def test_a_norm_without_a_place_for_a_bias_trains_but_does_not_merge():
    model = adapt(BitFitMethod(), tiny("llama"), targets=["q_proj", "input_layernorm"])
    assert len(trained_modules(model)) == 4
    disturb(model)
    assert (model(PROMPT).logits - forward(tiny("llama"))).abs().max() > 1e-3
    with pytest.raises(NotImplementedError, match="a LlamaRMSNorm has no place for a bias"):
        model.merge_adapter()


def test_what_can_have_no_bias_is_refused():
    method = BitFitMethod()
    with pytest.raises(ConfigError, match="embed_tokens, a Embedding, can have no bias"):
        method.fit(tiny("llama"), method.options(targets=["embed_tokens"]))
    with pytest.raises(ConfigError, match="self_attn, a LlamaAttention, can have no bias"):
        method.fit(tiny("llama"), method.options(targets=["self_attn"]))
