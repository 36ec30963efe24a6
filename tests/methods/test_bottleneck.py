"""Bottleneck adapters compute the papers' formula, on every known structure of layer, and are loaded by peft alone."""

import json
import subprocess
import sys

import numpy
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BloomConfig, MambaConfig

from peft_eval.errors import ConfigError, RouteError
from peft_eval.methods.bottleneck import AdapterOptions, BottleneckOptions, ParallelOptions, bottleneck_methods, wrapped
from peft_eval.methods.bottleneck_tuner import blocks
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import ARCHITECTURES, forward, tiny
from tests.methods.hooked import apply_blocks
from tests.tiny import tiny_llama

METHODS = {method.name: method for method in bottleneck_methods()}


def adapted(name, model, **options):
    return adapt(METHODS[name], model, **options)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["houlsby", "scaled_parallel"])
@torch.no_grad()
def test_blocks_on_the_plain_base_give_the_adapted_logits(architecture, name, tmp_path):
    model = adapted(
        name, tiny(architecture), positions=["attention", "ffn"], size=8, scale=METHODS[name].options().scale
    )
    disturb(model)
    expected = forward(model)
    model.save_pretrained(str(tmp_path))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    plain = tiny(architecture)
    untouched = forward(plain)
    dense = blocks(config, load_file(tmp_path / "adapter_model.safetensors"))
    apply_blocks(plain, dense)
    torch.testing.assert_close(forward(plain), expected, rtol=0, atol=1e-6)
    assert (expected - untouched).abs().max() > 1e-3
    per_side = 2 if architecture == "t5" else 1
    assert len(dense) == 2 * 2 * per_side  # two layers, two sublayers, cross-attention none


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_peft_loads_what_was_saved_and_takes_it_off_again(architecture, tmp_path):
    model = adapted("scaled_parallel", tiny(architecture), positions=["attention", "ffn"], size=8)
    disturb(model)
    expected = forward(model)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny(architecture), str(tmp_path)).eval()
    assert torch.equal(forward(loaded), expected)
    base = forward(tiny(architecture))
    with loaded.disable_adapter():
        assert torch.equal(forward(loaded), base)
    assert torch.equal(forward(loaded), expected)
    plain = loaded.unload()
    assert torch.equal(forward(plain), base)
    assert plain.state_dict().keys() == tiny(architecture).state_dict().keys()


def rows(tensor):
    """Returns a tensor as nested lists of rows, in float64."""
    return tensor.double().numpy()


@torch.no_grad()
def test_the_papers_adapter_is_its_formula(tmp_path):
    """Down, SiLU, up and the inner skip, on what attention and feed-forward put out: PROTOCOLS A4, in numpy."""
    model = adapted("adapter", tiny("llama"))
    disturb(model)
    seen = {}
    layer = model.base_model.model.model.layers[1]
    for name, module in (("self_attn", layer.self_attn), ("mlp", layer.mlp)):
        module.register_forward_hook(lambda _, args, result, name=name: seen.update({name: result}))
        module.base_layer.register_forward_hook(
            lambda _, args, result, name=name: seen.update({f"{name} base": result})
        )
    forward(model)
    for name, module in (("self_attn", layer.self_attn), ("mlp", layer.mlp)):
        before, after = seen[f"{name} base"], seen[name]
        h = rows(before[0] if isinstance(before, tuple) else before)
        down, up = module.bottleneck_down["default"], module.bottleneck_up["default"]
        assert down.weight.shape == (64, 32)
        z = h @ rows(down.weight).T + rows(down.bias)
        expected = z / (1 + numpy.exp(-z)) @ rows(up.weight).T + rows(up.bias) + h
        actual = rows(after[0] if isinstance(after, tuple) else after)
        numpy.testing.assert_allclose(actual, expected, atol=1e-6)


@torch.no_grad()
def test_starts_are_the_papers():
    model = adapted("adapter", tiny("llama"), size=512)
    layer = model.base_model.model.model.layers[0].mlp
    for linear in (layer.bottleneck_down["default"], layer.bottleneck_up["default"]):
        assert linear.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not linear.bias.any()
    base = forward(tiny("llama"))
    assert 0 < (forward(model) - base).abs().max() < 0.3  # near the base, not the base
    for name in ("parallel", "scaled_parallel"):
        assert torch.equal(forward(adapted(name, tiny("llama"))), base)
    truncated = adapted("houlsby", tiny("llama"), start="houlsby").base_model.model.model.layers[0].mlp
    assert truncated.bottleneck_up["default"].weight.abs().max() <= 0.02


def test_defaults_are_the_papers():
    found = {name: method.fit(tiny("llama"), method.options()) for name, method in METHODS.items()}
    assert {name: one.size for name, one in found.items()} == {
        "adapter": 64,
        "houlsby": 2,
        "pfeiffer": 2,
        "parallel": 16,
        "scaled_parallel": 16,
    }
    assert {name: one.activation for name, one in found.items()} == {
        "adapter": "silu",
        "houlsby": "silu",
        "pfeiffer": "relu",
        "parallel": "relu",
        "scaled_parallel": "relu",
    }
    assert [found[name].scale for name in METHODS] == [1, 1, 1, 4, "learned"]
    assert [found[name].positions for name in METHODS] == [["attention", "ffn"]] * 2 + [["ffn"]] * 3
    assert METHODS["adapter"].training_defaults["learning_rate"] == 1e-4


@pytest.mark.parametrize("name", METHODS)
def test_only_its_own_weights_get_gradients_with_checkpointing_too(name):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = adapted(name, tiny("opt"), positions=["attention", "ffn"]).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.get_base_model().config.dropout = 0.0
        for layer in model.get_base_model().model.decoder.layers:
            layer.dropout = layer.self_attn.base_layer.dropout = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable()
        forward(model).square().sum().backward()
        gradients.append({key: weight.grad for key, weight in model.named_parameters() if weight.grad is not None})
    assert set(gradients[0]) == {key for key, _ in model.named_parameters() if ".bottleneck_" in key}
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)


@torch.no_grad()
def test_a_bfloat16_base_keeps_float32_adapters():
    model = adapted("houlsby", tiny("llama", torch.bfloat16))
    own = {weight.dtype for name, weight in model.named_parameters() if ".bottleneck_" in name}
    assert own == {torch.float32}
    assert forward(model).dtype == torch.bfloat16


@torch.no_grad()
def test_two_adapters_can_be_switched(tmp_path):
    model = adapted("houlsby", tiny("gemma2"))
    disturb(model)
    first = forward(model)
    model.save_pretrained(str(tmp_path))
    model.load_adapter(str(tmp_path), adapter_name="second")
    model.set_adapter("second")
    assert torch.equal(forward(model), first)
    disturb(model, 0.2)
    assert not torch.equal(forward(model), first)
    model.set_adapter("default")
    assert torch.equal(forward(model), first)
    model.delete_adapter("second")
    assert torch.equal(forward(model), first)


@torch.no_grad()
def test_loading_late_and_continuing_give_the_same_weights(tmp_path):
    model = adapted("pfeiffer", tiny("llama"))
    disturb(model)
    model.save_pretrained(str(tmp_path))
    late = PeftModel.from_pretrained(tiny("llama"), str(tmp_path), low_cpu_mem_usage=True, is_trainable=True)
    assert torch.equal(forward(late.eval()), forward(model))
    assert {name for name, weight in late.named_parameters() if weight.requires_grad} == {
        name for name, weight in model.named_parameters() if weight.requires_grad
    }


def test_it_has_no_merged_form():
    model = adapted("houlsby", tiny("llama"))
    with pytest.raises(NotImplementedError, match="a bottleneck adapter is no change of a weight"):
        model.merge_and_unload()


@torch.no_grad()
def test_a_gate_is_a_number_a_token_and_has_no_dense_form(tmp_path):
    model = tiny("llama")
    method = METHODS["pfeiffer"]
    config = method.adapter_config(model, method.fit(model, method.options(size=8)))
    config.gated = True
    gated = wrapped(model, config, "").eval()
    disturb(gated, 0.3)
    layer = gated.base_model.model.model.layers[0].mlp
    h = torch.randn(1, 3, 32)
    free = layer.bottleneck_up["default"](torch.relu(layer.bottleneck_down["default"](h)))
    gate = torch.sigmoid(h @ layer.bottleneck_gate["default"].weight.T + layer.bottleneck_gate["default"].bias)
    assert gate.shape == (1, 3, 1)
    torch.testing.assert_close(layer.change("default", h, None), gate * free)
    gated.save_pretrained(str(tmp_path))
    with pytest.raises(RouteError, match="gate depends on the input"):
        blocks(json.loads((tmp_path / "adapter_config.json").read_text()), {})


def test_a_plain_process_loads_it(tmp_path):
    """`PeftModel.from_pretrained` needs peft_eval installed, not imported."""
    base = tiny_llama(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(str(base))
    method = METHODS["adapter"]
    method.prepare(model, method.fit(model, method.options(size=8)), base_id=str(base)).save_pretrained(
        str(tmp_path / "adapter")
    )
    program = (
        "import sys; from peft import PeftModel; from transformers import AutoModelForCausalLM as M;"
        f"m = PeftModel.from_pretrained(M.from_pretrained({str(base)!r}), {str(tmp_path / 'adapter')!r});"
        "print(sum('bottleneck_' in name for name in m.state_dict()))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == str(2 * 2 * 4)


def test_layers_of_unknown_structure_are_refused():
    bloom = AutoModelForCausalLM.from_config(BloomConfig(hidden_size=32, n_layer=1, n_head=2, vocab_size=64))
    mamba = AutoModelForCausalLM.from_config(MambaConfig(hidden_size=32, num_hidden_layers=1, vocab_size=64))
    method = METHODS["houlsby"]
    with pytest.raises(ConfigError, match="BloomAttention adds the residual itself"):
        method.fit(bloom, method.options())
    with pytest.raises(ConfigError, match=r"no attention and no ffn sublayers are found in a Mamba.*known are"):
        method.fit(mamba, method.options())


def test_options_that_do_not_fit_are_refused():
    method = METHODS["houlsby"]
    with pytest.raises(ConfigError, match="a reduction of 33 leaves nothing of a hidden size of 32"):
        method.fit(tiny("llama"), method.options(reduction=33))
    with pytest.raises(ConfigError, match=r"unknown activation 'sillu' .did you mean silu"):
        method.fit(tiny("llama"), method.options(activation="sillu"))


@pytest.mark.parametrize(
    "bad", [{"size": 8, "reduction": 4}, {"positions": []}, {"scale": 0}, {"size": 0}, {"start": "zeros"}, {"rank": 3}]
)
def test_bad_options_are_refused(bad):
    with pytest.raises(ValueError):
        BottleneckOptions(**{"reduction": None, "size": 8, **bad})


def test_resolved_options_are_options_again():
    assert AdapterOptions(reduction=4).size is None
    for options in (AdapterOptions(), AdapterOptions(reduction=4), ParallelOptions(size=8), ParallelOptions()):
        assert type(options)(**options.model_dump()) == options
