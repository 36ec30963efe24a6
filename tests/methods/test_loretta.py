"""LoRETTA's two methods compute their formulas, start as said, and the adapters have a dense form for an engine."""

import json

import numpy
import pytest
import torch
from safetensors.torch import load_file

from peft_eval.errors import ConfigError
from peft_eval.methods.loretta_adp import LorettaAdpMethod
from peft_eval.methods.loretta_adp_tuner import blocks
from peft_eval.methods.loretta_rep import LorettaRepMethod, LorettaRepOptions
from peft_eval.methods.tensor_train import dense
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import ARCHITECTURES, forward, tiny
from tests.methods.hooked import apply_blocks


def contracted(tensors, stem):
    """Contracts the cores saved under a name, in numpy: (in, out) as one row of numbers."""
    cores = []
    while f"{stem}.core{len(cores)}" in tensors:
        cores.append(tensors[f"{stem}.core{len(cores)}"].double().numpy())
    product = cores[0]
    for core in cores[1:]:
        product = numpy.tensordot(product, core, axes=1)
    return product.ravel()


@torch.no_grad()
def test_rep_is_lora_with_contracted_factors(tmp_path):
    model = adapt(LorettaRepMethod(), tiny("llama"), rank=4, alpha=6, targets=["k_proj"])
    disturb(model)
    model.save_pretrained(str(tmp_path))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    stem = "base_model.model.model.layers.1.self_attn.k_proj.loretta_"
    down = contracted(tensors, f"{stem}A").reshape(32, 4)
    up = contracted(tensors, f"{stem}B").reshape(4, 16)
    layer = model.base_model.model.model.layers[1].self_attn.k_proj
    weight = layer.base_layer.weight.double().numpy()
    x = torch.randn(3, 32)
    expected = x.double().numpy() @ (weight.T + 6 / 4 * down @ up)
    assert numpy.abs(layer(x).numpy() - expected).max() < 1e-5
    assert numpy.abs(layer.delta("default").numpy() - (6 / 4 * down @ up).T).max() < 1e-6


@torch.no_grad()
def test_rep_defaults_are_the_authors_and_a_random_start_is_not_the_base():
    options = LorettaRepOptions()
    assert (options.rank, options.alpha, options.tensor_rank, options.dropout) == (8, 16, 5, 0.05)
    assert LorettaRepOptions(rank=4, alpha=None).alpha == 4
    model = adapt(LorettaRepMethod(), tiny("llama"), start="random")
    assert (forward(model) - forward(tiny("llama"))).abs().max() > 1e-3


def test_rep_refuses_a_rank_above_a_layers_side():
    method = LorettaRepMethod()
    with pytest.raises(ConfigError, match=r"rank 17 exceeds .*k_proj \(32, 16\).*at most 16"):
        method.fit(tiny("llama"), method.options(rank=17, targets=["q_proj", "k_proj"]))


@torch.no_grad()
def test_adp_is_the_bottleneck_of_its_contracted_projections(tmp_path):
    model = adapt(LorettaAdpMethod(), tiny("llama"), size=6, scale=1.5)
    disturb(model)
    model.save_pretrained(str(tmp_path))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    seen = {}
    mlp = model.base_model.model.model.layers[0].mlp
    mlp.base_layer.register_forward_hook(lambda module, args, result: seen.update(before=result))
    mlp.register_forward_hook(lambda module, args, result: seen.update(after=result))
    forward(model)
    stem = "base_model.model.model.layers.0.mlp.loretta_"
    before, after = seen["before"].double().numpy(), seen["after"].double().numpy()
    down = contracted(tensors, f"{stem}down").reshape(32, 6)
    up = contracted(tensors, f"{stem}up").reshape(6, 32)
    inner = numpy.tanh(before @ down + tensors[f"{stem}down.bias"].double().numpy())
    expected = before + 1.5 * (inner @ up + tensors[f"{stem}up.bias"].double().numpy())
    assert numpy.abs(after - expected).max() < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_adp_blocks_on_the_plain_base_give_the_adapted_logits(architecture, tmp_path):
    model = adapt(LorettaAdpMethod(), tiny(architecture), size=8)
    plain = tiny(architecture)
    untouched = forward(plain)
    torch.testing.assert_close(forward(model), untouched, rtol=0, atol=1e-6)
    disturb(model)
    expected = forward(model)
    model.save_pretrained(str(tmp_path))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    apply_blocks(plain, blocks(config, load_file(tmp_path / "adapter_model.safetensors")))
    torch.testing.assert_close(forward(plain), expected, rtol=0, atol=1e-6)
    assert (expected - untouched).abs().max() > 1e-3


def test_adp_trains_every_core_once_it_has_left_its_start():
    model = adapt(LorettaAdpMethod(), tiny("llama"))
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    disturb(model)
    forward(model).square().sum().backward()
    assert {name for name, weight in model.named_parameters() if weight.grad is not None} == trained
    assert all("loretta_" in name for name in trained)
    assert any(name.endswith("core0") for name in trained)
    with pytest.raises(NotImplementedError, match="a tensor-train adapter is no change of a weight"):
        model.merge_adapter()


def test_adp_refuses_bad_options():
    method = LorettaAdpMethod()
    with pytest.raises(ConfigError, match="did you mean tanh"):
        method.fit(tiny("llama"), method.options(activation="tahn"))
    for bad in ({"size": 0}, {"tensor_rank": 0}, {"positions": []}, {"scale": 0}, {"start": "bert"}):
        with pytest.raises(ValueError):
            method.options(**bad)


def test_dense_contracts_in_order():
    cores = [torch.arange(6.0).view(1, 2, 3), torch.arange(9.0).view(3, 3, 1)]
    assert torch.equal(dense(cores, 2, 3), (cores[0][0] @ cores[1][:, :, 0]).T)
