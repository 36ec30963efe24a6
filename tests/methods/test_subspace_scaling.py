"""SSL and SSB scale a weight's inputs, and its outputs, but never its bias."""

import numpy
import pytest
import torch

from peft_eval.methods.subspace_scaling import subspace_scaling_methods
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import tiny

METHODS = {method.name: method for method in subspace_scaling_methods()}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("architecture", "path"), [("opt", "model.decoder.layers.1.fc1"), ("gpt2", "transformer.h.1.mlp.c_fc")]
)
@torch.no_grad()
def test_formula(name, architecture, path):
    model = adapt(METHODS[name], tiny(architecture))
    disturb(model, 0.3)
    layer = model.base_model.model.get_submodule(path)
    linear = layer.base_layer
    linear.bias.copy_(torch.randn(linear.bias.shape))
    weight = linear.weight.double().numpy()
    weight = weight.T if architecture == "gpt2" else weight
    inputs = layer.scaling_inputs["default"].double().numpy()
    outputs = layer.scaling_outputs["default"].double().numpy() if name == "ssb" else 1.0
    x = torch.randn(2, 3, weight.shape[1])
    expected = ((x.double().numpy() * inputs) @ weight.T) * outputs + linear.bias.double().numpy()
    assert numpy.abs(layer(x).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize(("name", "sides"), [("ssl", (32,)), ("ssb", (32, 48))])
def test_trains_one_number_a_side(name, sides):
    model = adapt(METHODS[name], tiny("llama"), targets=["up_proj"])
    sizes = [weight.numel() for weight in model.parameters() if weight.requires_grad]
    assert sorted(sizes) == sorted(sides * 2)  # two layers


@torch.no_grad()
def test_a_scale_of_zero_cannot_be_taken_out_again():
    model = adapt(METHODS["ssl"], tiny("llama"), targets=["q_proj"])
    for name, weight in model.named_parameters():
        if "scaling_" in name:
            weight[0] = 0
    model.merge_adapter()
    with pytest.raises(ValueError, match="cannot be had back"):
        model.unmerge_adapter()
