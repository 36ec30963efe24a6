"""Compositions train, save and load several methods as one adapter; MAM and UniPELT are settings of the same."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from peft_eval import plugins
from peft_eval.errors import ConfigError, ManyErrors, RouteError
from peft_eval.merging.merger import AdapterMerger, merge_obstacle
from peft_eval.methods.bottleneck_tuner import BottleneckLayer
from peft_eval.methods.gated_lora_tuner import GatedLoraLayer
from peft_eval.methods.prefix_tuner import PrefixLayer
from tests.methods.adapting import adapt, disturb
from tests.methods.bases import CAUSAL, PROMPT, forward, tiny

METHODS = plugins.methods()
SMALL = {"lora+houlsby": {"lora_rank": 4, "houlsby_size": 8}, "mam": {"prefix_length": 5}, "unipelt": {"lora_rank": 4}}
SMALL["lora+ln_tuning"] = {"lora_rank": 4}


def small(name, model, **options):
    return adapt(METHODS[name], model, **{**SMALL.get(name, {}), **options})


@pytest.mark.parametrize("architecture", CAUSAL)
@torch.no_grad()
def test_unipelt_is_loaded_by_peft_and_taken_off_again(architecture, tmp_path):
    model = small("unipelt", tiny(architecture))
    disturb(model)
    expected = forward(model)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(tiny(architecture), str(tmp_path)).eval()
    torch.testing.assert_close(forward(loaded), expected, rtol=0, atol=1e-5)
    assert set(load_file(tmp_path / "adapter_model.safetensors")) == {
        name.replace(".default", "") for name, weight in model.named_parameters() if weight.requires_grad
    }
    base = forward(tiny(architecture))
    with loaded.disable_adapter():
        assert torch.equal(forward(loaded), base)
    assert (expected - base).abs().max() > 0.1
    plain = loaded.unload()
    assert torch.equal(forward(plain), base)
    assert plain.state_dict().keys() == tiny(architecture).state_dict().keys()


def test_the_hybrids_are_the_papers():
    def parts(name):
        model = tiny("llama")
        method = METHODS[name]
        fitted = method.fit(model, method.options())
        found = method.prepare(model, fitted, base_id="").peft_config["default"].parts
        return {part["peft_type"]: part for part in found}

    mam = parts("mam")
    assert set(mam) == {"PREFIX", "BOTTLENECK"}
    assert (mam["PREFIX"]["length"], mam["PREFIX"]["mlp_size"], mam["PREFIX"]["gated"]) == (30, 800, False)
    parallel = mam["BOTTLENECK"]
    assert (parallel["reads"], parallel["scale"], parallel["size"], parallel["init"]) == ("input", 4, 16, "mam")
    unipelt = parts("unipelt")
    assert set(unipelt) == {"GATED_LORA", "PREFIX", "BOTTLENECK"}
    lora = unipelt["GATED_LORA"]
    assert (lora["r"], lora["lora_alpha"], lora["lora_dropout"]) == (8, 8, 0)
    assert set(lora["target_modules"]) == {"q_proj", "v_proj"}
    assert (unipelt["PREFIX"]["length"], unipelt["PREFIX"]["mlp_size"], unipelt["PREFIX"]["gated"]) == (10, 512, True)
    pfeiffer = unipelt["BOTTLENECK"]
    assert (pfeiffer["size"], pfeiffer["positions"], pfeiffer["gated"]) == (2, ["ffn"], True)


@torch.no_grad()
def test_unipelts_gates_are_its_formula():
    """Section 3.3 with a gate a token: each part's change times sigmoid(w · h + b) of what the part reads."""
    model = small("unipelt", tiny("llama"))
    disturb(model, 0.3)
    layer = model.base_model.model.model.layers[0]
    x = torch.randn(1, 3, 32)
    q = layer.self_attn.base_layer.q_proj
    a, b, gate = (part["default"] for part in (q.gated_lora_a, q.gated_lora_b, q.gated_lora_gate))
    update = torch.sigmoid(x @ gate.weight.T + gate.bias) * (8 / 4) * (x @ a.weight.T @ b.weight.T)
    torch.testing.assert_close(q(x), x @ q.base_layer.weight.T + update)
    prefix = layer.self_attn.prefix("default", x)
    gate = layer.self_attn.prefix_gate["default"]
    torch.testing.assert_close(prefix.gate, torch.sigmoid(x @ gate.weight.T + gate.bias))
    down, up, gate = (
        part["default"] for part in (layer.mlp.bottleneck_down, layer.mlp.bottleneck_up, layer.mlp.bottleneck_gate)
    )
    o = layer.mlp.base_layer(x)
    change = torch.relu(o @ down.weight.T + down.bias) @ up.weight.T + up.bias
    torch.testing.assert_close(layer.mlp(x), o + torch.sigmoid(o @ gate.weight.T + gate.bias) * change)


@torch.no_grad()
def test_gates_do_not_look_ahead():
    model = small("unipelt", tiny("llama"))
    disturb(model, 0.3)
    changed = PROMPT.clone()
    changed[:, 4:] = 11
    torch.testing.assert_close(forward(model, changed)[:, :4], forward(model)[:, :4])
    text = model.generate(input_ids=PROMPT, max_new_tokens=5, do_sample=False, use_cache=True)
    assert torch.equal(text, model.generate(input_ids=PROMPT, max_new_tokens=5, do_sample=False, use_cache=False))


@pytest.mark.parametrize("name", ["lora+houlsby", "mam", "unipelt", "lora+ln_tuning"])
def test_only_the_parts_get_gradients_with_checkpointing_too(name):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = small(name, tiny("llama"), **({"lora_dropout": 0.0} if "lora" in name else {})).train()
        disturb(model)
        if checkpointing:
            model.gradient_checkpointing_enable()
        forward(model).square().sum().backward()
        gradients.append({key: weight.grad for key, weight in model.named_parameters() if weight.grad is not None})
    assert set(gradients[0]) == {key for key, _ in model.named_parameters() if ".default" in key}
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)


@torch.no_grad()
def test_a_sum_of_two_methods_is_each_of_them(tmp_path):
    """LoRA and houlsby together compute what LoRA's merged base with houlsby's adapters on it computes."""
    model = small("lora+houlsby", tiny("llama"))
    disturb(model)
    model.save_pretrained(str(tmp_path))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    base = tiny("llama")
    lora = get_peft_model(base, LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "v_proj"]))
    own = {name: weight for name, weight in tensors.items() if "lora_" in name}
    loaded = lora.load_state_dict(
        {
            name.replace("self_attn.base_layer.", "self_attn.").replace(".weight", ".default.weight"): weight
            for name, weight in own.items()
        },
        strict=False,
    )
    assert not loaded.unexpected_keys and len(own) == 8
    houlsby = adapt(METHODS["houlsby"], lora.merge_and_unload(), size=8)
    others = {
        name.replace(".weight", ".default.weight").replace(".bias", ".default.bias"): tensors[name] for name in tensors
    }
    result = houlsby.load_state_dict({name: t for name, t in others.items() if "bottleneck_" in name}, strict=False)
    assert not result.unexpected_keys
    torch.testing.assert_close(forward(houlsby), forward(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_parts_that_merge_merge_together(dtype):
    model = small("lora+ln_tuning", tiny("llama", dtype), lora_rank=4)
    disturb(model)
    expected, base = forward(model).float(), forward(tiny("llama", dtype)).float()
    merged = model.merge_and_unload()
    assert merged.state_dict().keys() == tiny("llama").state_dict().keys()
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(forward(merged).float(), expected, rtol=0, atol=tolerance)
    assert (expected - base).abs().max() > 3 * tolerance


@torch.no_grad()
def test_such_a_composition_takes_the_merging_road(tmp_path):
    base = tiny("llama")
    base.save_pretrained(str(tmp_path / "base"))
    model = small("lora+ln_tuning", tiny("llama"))
    disturb(model)
    expected = forward(model)
    model.save_pretrained(str(tmp_path / "adapter"))
    merger = AdapterMerger(tmp_path / "adapter", tmp_path / "base")
    assert len(merger.targets) == 2 * 2 + 2 * 2 + 1  # q and v, two norms a layer, the last norm
    base.load_state_dict(dict(merger.merged(base.state_dict().items())), strict=False)
    torch.testing.assert_close(forward(base), expected, rtol=0, atol=1e-5)
    assert merge_obstacle({"peft_type": "COMPOSITE", "parts": [{"peft_type": "LORA", "arrow_config": {"k": 1}}]})
    small("lora+houlsby", tiny("llama")).save_pretrained(str(tmp_path / "other"))
    with pytest.raises(RouteError, match="a bottleneck adapter is no change of a weight"):
        AdapterMerger(tmp_path / "other", tmp_path / "base")


def test_parts_that_do_not_merge_leave_the_base_alone():
    model = small("lora+houlsby", tiny("llama"))
    disturb(model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(NotImplementedError, match="a bottleneck adapter is no change of a weight"):
        model.merge_and_unload()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@torch.no_grad()
def test_two_adapters_can_be_switched_and_deleted(tmp_path):
    model = small("lora+houlsby", tiny("llama"))
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
def test_a_bfloat16_base_keeps_float32_parts_and_its_own_copies():
    model = small("lora+ln_tuning+houlsby", tiny("llama", torch.bfloat16), lora_rank=4, houlsby_size=8)
    dtypes = {name.split(".")[-3]: weight.dtype for name, weight in model.named_parameters() if ".default." in name}
    assert dtypes == {
        "lora_A": torch.float32,
        "lora_B": torch.float32,
        "ln_tuning_layers": torch.bfloat16,
        "bottleneck_down": torch.float32,
        "bottleneck_up": torch.float32,
    }
    assert forward(model).isfinite().all()


def test_options_are_those_of_the_parts():
    options = METHODS["lora+pfeiffer"].options
    assert {"lora_rank", "lora_alpha", "pfeiffer_size", "pfeiffer_reduction", "gated"} <= set(options.model_fields)
    given = options(lora_rank=4, pfeiffer_size=8)
    assert (given.lora_rank, given.lora_alpha, given.pfeiffer_size, given.pfeiffer_reduction) == (4, 4, 8, None)
    assert options(**given.model_dump()) == given
    assert "lora+pfeiffer" not in set(METHODS)  # found, not listed
    with pytest.raises(ValueError, match=r"pfeiffer.*size and reduction exclude each other"):
        options(pfeiffer_size=8, pfeiffer_reduction=4)
    with pytest.raises(ValueError, match="lora_rank"):
        options(lora_rank=0)


def test_what_cannot_be_one_adapter_is_refused():
    with pytest.raises(ConfigError, match=r"unknown method 'lroa' .did you mean .*lora"):
        METHODS["lroa+houlsby"]
    with pytest.raises(ConfigError, match="lora is named twice"):
        METHODS["lora+lora"]
    for name, reason in {
        "houlsby+parallel": "BOTTLENECK cannot be part of a composition: there are two of this type",
        "lora+prompt_tuning": "PROMPT_TUNING cannot be part of a composition: it is put before the input by peft",
        "houlsby+adalora": "ADALORA cannot be part of a composition: it changes its shape while training",
        "lora+vera": "VERA cannot be part of a composition: its layers share weights",
        "pissa+houlsby": "LORA cannot be part of a composition: its start 'pissa' changes the base",
        "full+lora": "full is no adapter that could be part",
        "lora+loha": "would be changed by two parts, LOHA and lora",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            small(name, tiny("llama"), **{key: 4 for key in METHODS[name].options.model_fields if "rank" in key[-4:]})
    with pytest.raises(ConfigError, match="there is no gate for IA3"):
        small("ia3+houlsby", tiny("llama"), gated=True)
    with pytest.raises(ConfigError, match="a gated lora has no use_rslora"):
        small("lora+houlsby", tiny("llama"), gated=True, lora_rslora=True)
    with pytest.raises(ManyErrors, match=r"rank 99 exceeds(.|\n)*reduction of 99 leaves nothing"):
        small("lora+houlsby", tiny("llama"), lora_rank=99, houlsby_size=None, houlsby_reduction=99)


def test_the_wrappers_are_where_they_should_be():
    model = small("unipelt", tiny("llama"))
    kinds = [type(module) for module in model.modules()]
    assert [kinds.count(kind) for kind in (GatedLoraLayer, PrefixLayer, BottleneckLayer)] == [4, 2, 2]
    assert json.loads(json.dumps(model.peft_config["default"].parts))
