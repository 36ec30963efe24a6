"""Selective training changes the chosen parameters alone, and its files hold their new values."""

import pytest
import torch
from safetensors.torch import load_file

from peft_eval.errors import ConfigError
from peft_eval.methods.selective import AttentionTuningMethod, LayerTuningMethod
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import forward, tiny


def trained(model):
    """Returns the base's names of what is trained."""
    return {
        name.removeprefix("base_model.model.").replace(".selective_values.default.value_", ".")
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def expected(architecture, *words):
    return {name for name, _ in tiny(architecture).named_parameters() if any(word in name for word in words)}


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("llama", (".self_attn.",)),
        ("qwen3", (".self_attn.",)),  # with norms of its own for query and key
        ("gemma2", (".self_attn.",)),
        ("opt", (".self_attn.",)),
        ("gpt2", (".attn.",)),
        ("gpt_neox", (".attention.",)),
        ("t5", (".SelfAttention.", ".EncDecAttention.")),
    ],
)
def test_attention_tuning_trains_all_of_attention(architecture, words):
    assert trained(adapt(AttentionTuningMethod(), tiny(architecture))) == expected(architecture, *words)


@pytest.mark.parametrize(
    ("architecture", "options", "words"),
    [
        ("llama", {}, (".layers.1.",)),
        ("llama", {"first": 1}, (".layers.0.",)),
        ("llama", {"last": 2}, (".layers.",)),
        ("llama", {"layers": [1, 0]}, (".layers.",)),
        ("llama", {"layers": [0], "parts": "attention"}, (".layers.0.self_attn.",)),
        ("opt", {}, (".layers.1.",)),
        ("gpt2", {"first": 1}, (".h.0.",)),
        ("t5", {}, ("decoder.block.1.",)),
        ("t5", {"first": 1}, ("encoder.block.0.",)),
        ("t5", {"layers": [2], "parts": "attention"}, ("decoder.block.0.layer.0.Self", "decoder.block.0.layer.1.Enc")),
    ],
)
def test_layer_tuning_trains_the_chosen_blocks(architecture, options, words):
    assert trained(adapt(LayerTuningMethod(), tiny(architecture), **options)) == expected(architecture, *words)


@pytest.mark.parametrize("architecture", ["llama", "opt", "gpt2", "t5"])
@torch.no_grad()
def test_is_the_base_with_the_saved_values_in_place(architecture, tmp_path):
    model = adapt(LayerTuningMethod(), tiny(architecture))
    disturb(model)
    model.save_pretrained(str(tmp_path))
    plain = tiny(architecture)
    state = plain.state_dict()
    values = load_file(tmp_path / "adapter_model.safetensors")
    for name, value in values.items():
        own = name.removeprefix("base_model.model.").replace(".selective_values.value_", ".")
        assert not torch.equal(state[own], value)
        state[own].copy_(value)
    torch.testing.assert_close(forward(model), forward(plain), rtol=0, atol=0)
    assert (forward(plain) - forward(tiny(architecture))).abs().max() > 1e-3


@torch.no_grad()
def test_unmerging_gives_the_base_back_to_the_bit():
    model = adapt(AttentionTuningMethod(), tiny("llama", dtype=torch.bfloat16))
    disturb(model)
    model.merge_adapter()
    model.unmerge_adapter()
    plain = tiny("llama", dtype=torch.bfloat16).state_dict()
    for name, weight in model.unload().state_dict().items():
        assert torch.equal(weight, plain[name])


def test_blocks_that_are_not_there_are_refused():
    method = LayerTuningMethod()
    for options, words in (
        ({"first": 3}, "--first: the base has 2 blocks, not 3"),
        ({"last": 9}, "--last: the base has 2 blocks, not 9"),
        ({"layers": [0, 2]}, "--layers: the base has no block 2 .use 0 to 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            method.fit(tiny("llama"), method.options(**options))
    for bad in ({"first": 1, "last": 1}, {"layers": []}, {"layers": [-1]}, {"first": 0}, {"parts": "mlp"}):
        with pytest.raises(ValueError):
            method.options(**bad)
