"""Compacter's matrices are sums of Kronecker products with one rule for all layers."""

import json

import numpy
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from peft_eval.errors import ConfigError
from peft_eval.methods.compacter import compacter_methods
from peft_eval.methods.compacter_tuner import blocks
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import forward, tiny
from tests.methods.hooked import apply_blocks

COMPACTER, COMPACTER_PP = compacter_methods()


@torch.no_grad()
def test_a_layer_is_the_papers_formula():
    """Equations 5 to 7 in numpy: x · Σ_i A_i ⊗ (s_i t_i) + b, then gelu, then the same back, then the inner skip."""
    model = adapt(COMPACTER, tiny("llama"), size=8, phm_rank=2)
    disturb(model)
    first = model.base_model.model.model.layers[0].self_attn
    layer = model.base_model.model.model.layers[1].mlp
    rule = first.bottleneck_rule["default"].double().numpy()
    assert rule.shape == (4, 4, 4)

    def by_hand(module, x):
        left, right = module.left.double().numpy(), module.right.double().numpy()
        weight = sum(numpy.kron(rule[i], left[i] @ right[i]) for i in range(4))
        return x @ weight + module.bias.double().numpy()

    h = torch.randn(2, 3, 32)
    inner = by_hand(layer.bottleneck_down["default"], h.double().numpy())
    assert inner.shape == (2, 3, 8)
    inner = torch.nn.functional.gelu(torch.tensor(inner)).numpy()
    expected = by_hand(layer.bottleneck_up["default"], inner)
    numpy.testing.assert_allclose(layer.change("default", h, None).numpy(), expected, atol=1e-6)
    assert abs(expected).max() > 0.01


@pytest.mark.parametrize("method", [COMPACTER, COMPACTER_PP], ids=lambda method: method.name)
@torch.no_grad()
def test_saved_loaded_and_dense_give_the_same_logits(method, tmp_path):
    model = adapt(method, tiny("llama"), size=8)
    disturb(model)
    expected = forward(model)
    model.save_pretrained(str(tmp_path))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert sum("bottleneck_rule" in name for name in tensors) == 1
    for late in (False, True):
        loaded = PeftModel.from_pretrained(tiny("llama"), str(tmp_path), low_cpu_mem_usage=late)
        assert torch.equal(forward(loaded), expected)
    plain = tiny("llama")
    dense = blocks(json.loads((tmp_path / "adapter_config.json").read_text()), tensors)
    apply_blocks(plain, dense)
    torch.testing.assert_close(forward(plain), expected, rtol=0, atol=1e-6)
    assert {block.module.rpartition(".")[2] for block in dense} == (
        {"self_attn", "mlp"} if method is COMPACTER else {"mlp"}
    )


@torch.no_grad()
def test_it_starts_next_to_the_base():
    base = forward(tiny("llama"))
    assert (forward(adapt(COMPACTER, tiny("llama"), size=8)) - base).abs().max() < 1e-6


def test_weights_and_gradients():
    model = adapt(COMPACTER, tiny("llama"), size=8).train()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    a_matrix = 4 * (32 // 4 + 8 // 4)  # n · (in / n + out / n) · rank
    assert sum(weight.numel() for weight in trained.values()) == 4**3 + 4 * (2 * a_matrix + 8 + 32)
    disturb(model)
    forward(model).square().sum().backward()
    assert {name for name, weight in model.named_parameters() if weight.grad is not None} == set(trained)
    assert all(weight.grad.abs().sum() > 0 for weight in trained.values())


@torch.no_grad()
def test_two_adapters_have_a_rule_each(tmp_path):
    model = adapt(COMPACTER, tiny("llama"), size=8)
    disturb(model)
    first = forward(model)
    model.save_pretrained(str(tmp_path))
    model.load_adapter(str(tmp_path), adapter_name="second")
    model.set_adapter("second")
    assert torch.equal(forward(model), first)
    disturb(model)
    assert not torch.equal(forward(model), first)
    model.set_adapter("default")
    assert torch.equal(forward(model), first)


def test_what_n_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match=r"--phm-dim: 4 does not divide the bottleneck's width, 1"):
        COMPACTER.fit(tiny("llama"), COMPACTER.options())
    with pytest.raises(ConfigError, match="3 does not divide the hidden size, 32"):
        COMPACTER.fit(tiny("llama"), COMPACTER.options(phm_dim=3, size=9))
    with pytest.raises(ValueError, match="size and reduction exclude"):
        COMPACTER.options(size=8, reduction=4)
