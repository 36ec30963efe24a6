"""Prefixes are keys and values before the real ones: the same as a cache that holds them already."""

import pytest
import torch
from peft import PeftModel
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from peft_eval.errors import ConfigError
from peft_eval.methods.bottleneck import wrapped
from peft_eval.methods.prefix import prefix_methods
from peft_eval.methods.prefix_tuner import PrefixLayer
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import ARCHITECTURES, CAUSAL, PROMPT, forward, tiny

PREFIX, PREFIX_FLAT = prefix_methods()


def prefixes(model):
    """Returns each layer's keys and values."""
    layers = [module for module in model.modules() if isinstance(module, PrefixLayer)]
    return [layer.prefix("default", None) for layer in layers]


@pytest.mark.parametrize("architecture", CAUSAL)
@torch.no_grad()
def test_it_is_what_a_filled_cache_gives(architecture):
    model = adapt(PREFIX, tiny(architecture, sliding_window=64), length=5, mlp_size=8)
    base, cache = tiny(architecture, sliding_window=64), DynamicCache()
    for number, prefix in enumerate(prefixes(model)):
        cache.update(prefix.keys.expand(2, -1, -1, -1), prefix.values.expand(2, -1, -1, -1), number)
    tokens = PROMPT.shape[1]
    expected = base(
        input_ids=PROMPT,
        past_key_values=cache,
        attention_mask=torch.ones(2, 5 + tokens),
        position_ids=torch.arange(tokens).expand(2, -1),
    ).logits
    torch.testing.assert_close(forward(model), expected, rtol=0, atol=1e-6)
    assert (expected - forward(tiny(architecture, sliding_window=64))).abs().max() > 0.1


@torch.no_grad()
def test_the_network_is_the_papers_formula():
    """One network writes the keys and values of all layers: tanh(E D' + b) U' + c, cut into layers."""
    model = adapt(PREFIX, tiny("llama"), length=5, mlp_size=8)
    disturb(model)
    first, second = (layer.self_attn for layer in model.base_model.model.model.layers)
    embedding, down = first.prefix_embedding["default"], first.prefix_down["default"]
    assert (embedding.shape, down.weight.shape) == ((5, 32), (8, 32))
    up = torch.cat([layer.prefix_up["default"].weight for layer in (first, second)])
    bias = torch.cat([layer.prefix_up["default"].bias for layer in (first, second)])
    written = torch.tanh(embedding @ down.weight.T + down.bias) @ up.T + bias  # (length, layers · 2 · heads · size)
    expected = written.view(5, 2, 2, 1, 16)
    for number, prefix in enumerate(prefixes(model)):
        torch.testing.assert_close(prefix.keys, expected[:, number, 0].transpose(0, 1))
        torch.testing.assert_close(prefix.values, expected[:, number, 1].transpose(0, 1))
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == 5 * 32 + 8 * 33 + 2 * 32 * 9


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_a_gate_scales_keys_and_values_for_each_query(attention):
    """UniPELT's gated prefix by hand: softmax over [g q·k_p, q·k], sum of g v_p and v."""
    base = tiny("llama")
    base.set_attn_implementation(attention)
    config = PREFIX_FLAT.adapter_config(base, PREFIX_FLAT.options(length=5))
    config.gated = True
    model = wrapped(base, config, "").eval()
    disturb(model, 0.3)
    layer = model.base_model.model.model.layers[0].self_attn
    attend = layer.base_layer
    hidden = torch.randn(1, 4, 32)
    cos, sin = model.base_model.model.model.rotary_emb(hidden, torch.arange(4)[None])
    mask = torch.ones(4, 4, dtype=torch.bool).tril()[None, None]
    mask = mask if attention == "sdpa" else torch.where(mask, 0.0, torch.finfo(torch.float32).min)
    actual, _ = layer(hidden, position_embeddings=(cos, sin), attention_mask=mask)

    q, k, v = (one(hidden).view(1, 4, -1, 16).transpose(1, 2) for one in (attend.q_proj, attend.k_proj, attend.v_proj))
    q, k = apply_rotary_pos_emb(q, k, cos, sin)
    prefix = layer.prefix("default", hidden)
    expected = torch.zeros(1, 4, 2, 16)
    for head in range(2):
        for token in range(4):
            gate = prefix.gate[0, token]
            keys = torch.cat([gate * prefix.keys[0], k[0, 0, : token + 1]])
            values = torch.cat([gate * prefix.values[0], v[0, 0, : token + 1]])
            weights = torch.softmax(keys @ q[0, head, token] / 4, 0)
            expected[0, token, head] = weights @ values
    torch.testing.assert_close(actual, attend.o_proj(expected.reshape(1, 4, 32)), rtol=0, atol=1e-6)
    assert prefix.gate.std() > 0.01


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_peft_loads_what_was_saved_and_takes_it_off_again(architecture, tmp_path):
    model = adapt(PREFIX, tiny(architecture), length=5, mlp_size=8)
    disturb(model)
    expected = forward(model)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny(architecture), str(tmp_path), low_cpu_mem_usage=True).eval()
    torch.testing.assert_close(forward(loaded), expected, rtol=0, atol=1e-5)
    base = forward(tiny(architecture))
    with loaded.disable_adapter():
        assert torch.equal(forward(loaded), base)
    plain = loaded.unload()
    assert torch.equal(forward(plain), base)
    assert plain.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gpt2"])
@torch.no_grad()
def test_generation_with_a_cache_is_generation_without(architecture):
    model = adapt(PREFIX_FLAT, tiny(architecture), length=5)
    cached = model.generate(input_ids=PROMPT, max_new_tokens=6, do_sample=False, use_cache=True)
    plain = model.generate(input_ids=PROMPT, max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(cached, plain)


def test_gradients_with_checkpointing_too():
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = adapt(PREFIX, tiny("llama"), length=5, mlp_size=8).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        forward(model).square().sum().backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert set(gradients[0]) == {name for name, weight in model.named_parameters() if ".prefix_" in name}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@torch.no_grad()
def test_padding_on_the_left_changes_nothing():
    model = adapt(PREFIX_FLAT, tiny("llama"), length=5)
    row = PROMPT[:1]
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), row], 1)
    mask = torch.cat([torch.zeros(1, 3, dtype=torch.long), torch.ones_like(row)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    actual = model(input_ids=padded, attention_mask=mask, position_ids=positions).logits[:, 3:]
    torch.testing.assert_close(actual, forward(model, row), rtol=0, atol=1e-5)


def test_what_takes_no_prefix_is_refused():
    base = LlamaForCausalLM(LlamaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    base.config._attn_implementation = "flex_attention"
    with pytest.raises(ConfigError, match=r"cannot be put into flex_attention attention .load the base with sdpa"):
        adapt(PREFIX, base)
    with pytest.raises(NotImplementedError, match="a prefix is no change of a weight"):
        adapt(PREFIX, tiny("llama")).merge_and_unload()
