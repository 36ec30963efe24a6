"""LoRTA's updates are slices of one tensor of low rank, on bases with few key heads and odd head sizes too."""

import numpy
import pytest
import torch
from safetensors.torch import load_file

from peft_eval.errors import ConfigError
from peft_eval.methods.lorta import LortaMethod
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import tiny

HIDDEN, HEAD, HEADS, LAYERS, RANK, ALPHA = 32, 16, 2, 2, 3, 5.0


def entry(tensors, matrix, layer, head, hidden, width):
    """One entry of the tensor: a sum over the rank of products of five factors."""
    total = 0.0
    for k in range(RANK):
        total += (
            tensors["hidden"][hidden, k]
            * tensors["width"][width, k]
            * tensors["head"][head, k]
            * tensors["matrix"][matrix, k]
            * tensors["layer"][layer, k]
        )
    return ALPHA / RANK * total


@pytest.mark.parametrize(("leaf", "matrix", "heads"), [("q_proj", 0, 2), ("k_proj", 1, 1), ("v_proj", 2, 1)])
@torch.no_grad()
def test_update_of_a_head_is_a_slice_of_the_tensor(leaf, matrix, heads, tmp_path):
    layer, tensors = saved(tmp_path, leaf)
    expected = [
        [entry(tensors, matrix, 1, head, hidden, width) for hidden in range(HIDDEN)]
        for head in range(heads)
        for width in range(HEAD)
    ]
    check(layer, numpy.array(expected))


@torch.no_grad()
def test_the_output_projections_heads_lie_along_its_inputs(tmp_path):
    layer, tensors = saved(tmp_path, "o_proj")
    expected = [
        [entry(tensors, 3, 1, head, hidden, width) for head in range(HEADS) for width in range(HEAD)]
        for hidden in range(HIDDEN)
    ]
    check(layer, numpy.array(expected))


def saved(folder, leaf):
    model = adapt(LortaMethod(), tiny("llama"), rank=RANK, alpha=ALPHA)
    disturb(model, 0.5)
    model.save_pretrained(str(folder))
    found = load_file(folder / "adapter_model.safetensors")
    tensors = {name.removeprefix("base_model.lorta_"): tensor.double().numpy() for name, tensor in found.items()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    assert shapes == {
        "hidden": (HIDDEN, RANK),
        "width": (HEAD, RANK),
        "head": (HEADS, RANK),
        "matrix": (4, RANK),
        "layer": (LAYERS, RANK),
    }
    return getattr(model.base_model.model.model.layers[1].self_attn, leaf), tensors


def check(layer, expected):
    delta = layer.delta("default").numpy()
    assert numpy.abs(delta - expected).max() < 1e-5 * numpy.abs(expected).max()
    x = torch.randn(2, 3, layer.in_features)
    weight = layer.base_layer.weight.double().numpy() + expected
    assert numpy.abs(layer(x).numpy() - x.double().numpy() @ weight.T).max() < 1e-4


def test_factors_start_as_the_authors_and_are_made_once():
    model = adapt(LortaMethod(), tiny("llama"))
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert len(trained) == 5
    for name, weight in trained.items():
        bound = 0 if "width" in name else 8**-0.5
        assert weight.abs().max() <= bound
    assert not trained["base_model.lorta_width.default"].any()


def test_every_attention_of_an_encoder_decoder_is_a_layer():
    model = adapt(LortaMethod(), tiny("t5"))
    assert model.base_model.lorta_layer["default"].shape == (2 + 2 * 2, 8)  # self-attention, and cross in the decoder


def test_fewer_targets_need_fewer_updates():
    model = adapt(LortaMethod(), tiny("llama"), targets=["v_proj"])
    layer = model.base_model.model.model.layers[0].self_attn
    assert type(layer.q_proj).__name__ == "Linear"
    assert type(layer.v_proj).__name__ == "LortaLayer"


def test_what_is_no_slice_is_refused_by_name():
    method = LortaMethod()
    with pytest.raises(ConfigError, match=r"layers.0.mlp.up_proj is no query, key, value or output projection"):
        method.fit(tiny("llama"), method.options(targets=["q_proj", "up_proj"]))
    with pytest.raises(ConfigError, match="GPT2LMHeadModel has no attention projections by a known name"):
        method.fit(tiny("gpt2"), method.options())


def test_a_second_adapter_has_factors_of_its_own():
    method = LortaMethod()
    model = adapt(method, tiny("llama"))
    model.add_adapter("other", method.adapter_config(tiny("llama"), method.options(rank=2)))
    assert model.base_model.lorta_hidden["other"].shape == (HIDDEN, 2)
    assert model.base_model.lorta_hidden["default"].shape == (HIDDEN, 8)
