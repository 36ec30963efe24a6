"""What holds for every method that changes the base's own weights: start, gradients, saving, merging, refusals."""

import json
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from peft_eval.checkpoint.writing import load_adapter_weights, save_adapter
from peft_eval.errors import ConfigError, ManyErrors
from peft_eval.merging.merger import AdapterMerger
from peft_eval.methods.bitfit import BitFitMethod
from peft_eval.methods.loretta_rep import LorettaRepMethod
from peft_eval.methods.lorta import LortaMethod
from peft_eval.methods.method import Course
from peft_eval.methods.sam import SamMethod
from peft_eval.methods.sara import SaraMethod
from peft_eval.methods.selective import AttentionTuningMethod, LayerTuningMethod
from peft_eval.methods.subspace_scaling import subspace_scaling_methods
from tests.methods.adapting import disturb
from tests.methods.bases import ARCHITECTURES, PROMPT, forward, tiny
from tests.tiny import tiny_llama

METHODS = {
    method.name: method
    for method in [
        BitFitMethod(),
        AttentionTuningMethod(),
        LayerTuningMethod(),
        *subspace_scaling_methods(),
        LorettaRepMethod(),
        LortaMethod(),
        SaraMethod(),
        SamMethod(),
    ]
}
OPTIONS = {"sara": {"threshold": 0.02}, "sam": {"fraction": 0.02, "choosing_examples": 4}}
FUSED = ("gpt2", "gpt_neox")  # whose query, key and value are one weight, so LoRTA finds no heads in them


def course(examples=4):
    """Returns a run on random answers to the prompt's length, in batches of two."""

    def batches(count: int):
        generator = torch.Generator().manual_seed(2)
        for _ in range(0, min(count, examples), 2):
            ids = torch.randint(3, 64, (2, 6), generator=generator)
            yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

    return Course(steps=10, examples=batches)


def adapt(name, model, **options):
    method = METHODS[name]
    if model.config.is_encoder_decoder:
        model.config.decoder_start_token_id = 0
    fitted = method.fit(model, method.options(**OPTIONS.get(name, {}), **options))
    if hasattr(method, "prepare_in"):
        return method.prepare_in(model, fitted, base_id="", course=course()).eval()
    return method.prepare(model, fitted, base_id="").eval()


def cases():
    for name in METHODS:
        for architecture in ARCHITECTURES if name in ("bitfit", "ssb", "lorta") else ("llama", "gpt2", "t5"):
            if not (name == "lorta" and architecture in FUSED):
                yield name, architecture


@pytest.mark.parametrize(("name", "architecture"), cases())
def test_starts_as_the_base_and_trains_nothing_else(name, architecture):
    model = adapt(name, tiny(architecture))
    torch.testing.assert_close(forward(model), forward(tiny(architecture)), rtol=0, atol=1e-6)
    trained = {key for key, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all(tuner_prefix(name) in key for key in trained)
    disturb(model)
    forward(model).square().sum().backward()
    assert {key for key, weight in model.named_parameters() if weight.grad is not None} == trained


def tuner_prefix(name):
    return METHODS[name].tuners[0].prefix


@pytest.mark.parametrize(("name", "architecture"), cases())
def test_is_loaded_by_peft_merged_taken_out_again_and_switched_off(name, architecture, tmp_path):
    model = adapt(name, tiny(architecture))
    disturb(model)
    with torch.no_grad():
        base, expected = forward(tiny(architecture)), forward(model)
        assert (expected - base).abs().max() > 1e-3
        save_adapter(model, tmp_path)
        loaded = PeftModel.from_pretrained(tiny(architecture), str(tmp_path)).eval()
        assert torch.equal(forward(loaded), expected)
        with loaded.disable_adapter():
            assert torch.equal(forward(loaded), base)
        scale = expected.abs().max()
        loaded.merge_adapter()
        assert (forward(loaded) - expected).abs().max() <= 1e-5 * scale
        loaded.unmerge_adapter()
        assert (forward(loaded) - expected).abs().max() <= 1e-5 * scale
        with loaded.disable_adapter():
            assert (forward(loaded) - base).abs().max() <= 1e-5 * scale
        merged = loaded.merge_and_unload(safe_merge=True)
        assert (forward(merged) - expected).abs().max() <= 1e-5 * scale
        assert not any(tuner_prefix(name) in key for key in merged.state_dict())


@pytest.mark.parametrize("name", [name for name in METHODS if name != "bitfit"])
def test_the_file_holds_what_is_trained_and_little_else(name, tmp_path):
    model = adapt(name, tiny("llama"))
    save_adapter(model, tmp_path)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    places = trained if tuner_prefix(name) == "sparse_" else 0
    tensors = 4 * (trained + places)
    assert tensors <= (tmp_path / "adapter_model.safetensors").stat().st_size < tensors + 12_000
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == METHODS[name].tuners[0].peft_type
    fresh = adapt(name, tiny("llama"))
    disturb(fresh)
    load_adapter_weights(fresh, tmp_path)
    for key, weight in model.state_dict().items():
        assert torch.equal(weight, fresh.state_dict()[key]), key


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("base"), heads=2, head_dim=32, tied=False)


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_merges_tensor_by_tensor(name, folder, tmp_path):
    with torch.enable_grad():
        model = adapt(name, AutoModelForCausalLM.from_pretrained(folder))
    disturb(model)
    expected = model(PROMPT).logits
    save_adapter(model, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    merger = AdapterMerger(tmp_path, folder)
    merged = dict(merger.merged(plain.state_dict().items()))
    changed = {key for key, weight in plain.state_dict().items() if not torch.equal(weight, merged[key])}
    if name == "bitfit":
        config = plain.config
        config.attention_bias = config.mlp_bias = True
        plain = AutoModelForCausalLM.from_config(config).eval()
    else:
        assert changed == merger.targets
    plain.load_state_dict(merged)
    assert (plain(PROMPT).logits - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", METHODS)
@torch.no_grad()
def test_trains_in_float32_beside_a_bfloat16_base_and_merges_with_its_rounding(name):
    with torch.enable_grad():
        model = adapt(name, tiny("llama", dtype=torch.bfloat16))
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    disturb(model)
    expected = forward(model).float()
    model.merge_adapter()
    assert (forward(model).float() - expected).abs().max() <= 0.05 * expected.abs().max()


@pytest.mark.parametrize("name", METHODS)
def test_a_quantised_base_is_refused_by_name(name):
    model = tiny("llama")
    model.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(ConfigError, match=f"{name} works on the base's own weights.*quantised"):
        METHODS[name].fit(model, METHODS[name].options())


@pytest.mark.parametrize("name", [name for name in METHODS if "tuning" not in name])
def test_targets_that_match_nothing_are_refused_with_near_names(name):
    method = METHODS[name]
    with pytest.raises(ManyErrors, match="did you mean q_proj") as caught:
        method.fit(tiny("llama"), method.options(targets=["qproj", "zzz"]))
    assert "no layer is called 'zzz'" in str(caught.value)
    with pytest.raises(ValueError, match="names no layer"):
        method.options(targets=[])
    with pytest.raises(ValueError, match="all-linear cannot"):
        method.options(targets=["all-linear", "q_proj"])


@pytest.mark.parametrize("name", ["ssl", "loretta_rep", "sara", "sam"])
def test_a_module_that_is_no_linear_layer_is_refused(name):
    method = METHODS[name]
    with pytest.raises(ConfigError, match=r"layers.0.input_layernorm is no linear layer"):
        method.fit(tiny("llama"), method.options(targets=["input_layernorm"]))


def test_options_are_listed_without_torch():
    program = """
import sys
from peft_eval import plugins
for method in plugins.methods().values():
    method.options.model_fields
assert not {"torch", "peft", "transformers"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True)
