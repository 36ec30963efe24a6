"""The catalogue offers all of peft: options read from its source, names and defaults of the papers, clear refusals."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from peft_eval import plugins
from peft_eval.errors import ConfigError, ManyErrors
from peft_eval.methods.catalogue import catalogue, offered, unavailable
from peft_eval.methods.method import Course
from peft_eval.methods.peft_types import fields_of, peft_type_names
from peft_eval.methods.presets import NOT_OFFERED, PRESETS
from tests.tiny import tiny_llama

METHODS = {method.name: method for method in catalogue()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(folder):
    return AutoModelForCausalLM.from_pretrained(str(folder))


def test_every_type_of_the_installed_peft_is_a_method_or_has_a_reason():
    assert set(peft_type_names()) == {kind.value for kind in peft.PeftType}
    offered_types = {method.preset.peft_type for method in METHODS.values()}
    missing = set(peft_type_names()) - offered_types
    assert {name.lower() for name in missing} == set(unavailable())
    assert all(unavailable().values())


@pytest.mark.parametrize("peft_type", peft_type_names())
def test_fields_and_defaults_are_those_of_pefts_own_class(peft_type):
    theirs = {field.name: field for field in dataclasses.fields(PEFT_TYPE_TO_CONFIG_MAPPING[peft_type])}
    ours = fields_of(peft_type)
    common = {field.name for field in dataclasses.fields(peft.PeftConfig)}
    assert set(ours) == set(theirs) - common - {"runtime_config"}
    for name, field in ours.items():
        default = theirs[name].default
        if default is dataclasses.MISSING:
            assert field.default == theirs[name].default_factory() or "Config" in str(theirs[name].type)
        else:
            assert field.default == getattr(default, "value", default), name


def test_a_reason_is_given_for_settings_that_exist_only():
    existing = {name for peft_type in peft_type_names() for name in fields_of(peft_type)}
    assert set(NOT_OFFERED) <= existing | {"runtime_config"}


def test_help_texts_have_no_links():
    texts = [field.help for method in METHODS.values() for _, field in offered(method.preset)]
    assert texts and not [text for text in texts if "http" in text or "<a" in text]


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from peft_eval import plugins; [one.options for one in plugins.methods().values()]; "
        "print(sorted({'torch', 'transformers', 'peft', 'lm_eval', 'vllm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_defaults_of_lora_are_the_papers():
    lora = METHODS["lora"]
    options = lora.options(rank=32)
    assert (options.alpha, options.dropout, options.rslora, options.dora) == (32, 0.1, False, False)
    assert lora.options().alpha == lora.options().rank == 64
    assert lora.training_defaults["learning_rate"] == 5e-4


def test_defaults_of_other_types_are_pefts():
    for name, changed in (("vera", {}), ("miss", {}), ("oft", {}), ("boft", {})):
        options = METHODS[name].options()
        for option, field in offered(PRESETS[name]):
            if option not in changed:
                assert getattr(options, option) == field.default, (name, option)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("dora", "use_dora", True),
        ("rslora", "use_rslora", True),
        ("pissa", "init_lora_weights", "pissa"),
        ("olora", "init_lora_weights", "olora"),
        ("lora", "r", 4),
    ],
)
def test_a_preset_is_peft_with_its_setting(model, name, setting, value):
    method = METHODS[name]
    adapted = method.prepare(model, method.fit(model, method.options(rank=4)), base_id="base")
    assert getattr(adapted.peft_config["default"], setting) == value
    assert adapted.peft_config["default"].base_model_name_or_path == "base"
    with pytest.raises(ValueError):
        method.options(**{setting: value})  # house names only, and never what makes the method


def test_krona_is_a_product_of_two_full_matrices(model):
    method = METHODS["krona"]
    adapted = method.prepare(model, method.fit(model, method.options(scale=0.5)), base_id="base")
    layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
    assert set(layer.lokr_w1) == set(layer.lokr_w2) == {"default"} and not layer.lokr_w2_a
    torch.nn.init.normal_(layer.lokr_w1["default"])
    expected = 0.5 * torch.kron(layer.lokr_w1["default"], layer.lokr_w2["default"])
    torch.testing.assert_close(layer.get_delta_weight("default"), expected)


def test_dora_trains_outputs_whose_weights_are_zero(model):
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        model.model.layers[1].self_attn.v_proj.weight[5] = 0
        model.model.layers[1].mlp.down_proj.weight[7] = 0
        expected = model(ids).logits
    dora = METHODS["dora"]
    adapted = dora.prepare(
        model, dora.fit(model, dora.options(rank=4, targets=["v_proj", "down_proj"])), base_id="base"
    )
    logits = adapted.eval()(ids).logits
    torch.testing.assert_close(logits, expected)
    logits.square().mean().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in adapted.parameters() if weight.requires_grad)


def test_default_targets(model):
    lora = METHODS["lora"]
    assert sorted(lora.fit(model, lora.options(rank=4)).targets) == ["q_proj", "v_proj"]
    ia3 = METHODS["ia3"]
    fitted = ia3.fit(model, ia3.options())
    assert (sorted(fitted.targets), fitted.feedforward_modules) == (["down_proj", "k_proj", "v_proj"], ["down_proj"])
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32, n_positions=32))
    fitted = lora.fit(gpt2, lora.options(rank=4))
    assert fitted.targets == ["c_attn"]
    assert lora.prepare(gpt2, fitted, base_id="base").peft_config["default"].fan_in_fan_out


def test_a_regular_expression_names_whole_layers(model):
    lora = METHODS["lora"]
    fitted = lora.fit(model, lora.options(rank=4, targets=[r".*layers\.1\..*(q|k)_proj"]))
    adapted = lora.prepare(model, fitted, base_id="base")
    trained = {name.split(".lora_")[0] for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert {name.rpartition(".")[2] for name in trained} == {"q_proj", "k_proj"} and len(trained) == 2


def test_targets_that_match_nothing_are_refused_with_near_names(model):
    lora = METHODS["lora"]
    with pytest.raises(ManyErrors) as caught:
        lora.fit(model, lora.options(rank=65, targets=["qproj", "q_proj", "zzz"]))
    text = str(caught.value)
    assert "no layer is called 'qproj' (did you mean q_proj" in text
    assert "'zzz' (linear layers here: down_proj, gate_proj, k_proj" in text
    assert "rank 65 exceeds" in text  # all at once
    with pytest.raises(ConfigError, match="did you mean input_layernorm"):
        METHODS["ln_tuning"].fit(model, METHODS["ln_tuning"].options(targets=["input_layer_norm"]))


def test_targets_in_some_layers_only_are_refused_unless_meant(model):
    lora = METHODS["lora"]
    del model.model.layers[1].self_attn.k_proj
    with pytest.raises(ConfigError, match=r"k_proj: in 1 of the 2 layers, not in 1 .*layers_to_transform"):
        lora.fit(model, lora.options(rank=4, targets=["k_proj"]))
    assert lora.fit(model, lora.options(rank=4, targets=["k_proj"], layers_to_transform=[0])).targets == ["k_proj"]
    assert lora.fit(model, lora.options(rank=4, targets=["layers.0.self_attn.k_proj"])).targets
    assert lora.fit(model, lora.options(rank=4, targets=["k_proj", "q_proj"])).targets


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("lora", {"rank": 65}, r"rank 65 exceeds .*q_proj.*use at most 64"),
        ("adalora", {"init_r": 99}, r"--init-r: rank 99 exceeds"),
        ("lora", {"rank": 4, "layers_to_transform": [1, 2]}, r"no layer 2 \(its layers are 0 to 1\)"),
        ("prompt_tuning", {"num_virtual_tokens": 5000}, "5,000 virtual tokens leave nothing of the base's context"),
        ("trainable_tokens", {}, "token-indices: is required"),
        ("trainable_tokens", {"token_indices": [5, 384]}, "token 384 is outside the vocabulary of 384"),
    ],
)
def test_what_does_not_fit_the_base_is_refused(model, name, options, words):
    method = METHODS[name]
    with pytest.raises(ConfigError, match=words):
        method.fit(model, method.options(**options))


@pytest.mark.parametrize(
    ("name", "options"),
    [("c3a", {"block_size": 48}), ("vblora", {"vector_length": 48}), ("boft", {"boft_block_size": 7})],
)
def test_what_peft_refuses_is_one_line(model, name, options):
    method = METHODS[name]
    with pytest.raises(ConfigError, match=f"--method {name}: peft refuses it for this base: ") as caught:
        method.prepare(model, method.fit(model, method.options(**options)), base_id="base")
    assert "\n" not in str(caught.value)


def test_a_base_of_another_kind_is_refused():
    gpt2 = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=32, n_positions=32))
    method = METHODS["gralora"]
    with pytest.raises(ConfigError):
        method.prepare(gpt2, method.fit(gpt2, method.options(rank=4, targets=["wte"])), base_id="base")
    with pytest.raises(ConfigError, match="no default targets of miss for a gpt_x"):
        gpt2.config.model_type = "gpt_x"
        METHODS["miss"].fit(gpt2, METHODS["miss"].options())


def test_types_that_are_no_methods_are_refused_with_the_reason():
    with pytest.raises(ConfigError, match="poly is no method: it needs the number of a training task"):
        plugins.methods()["poly"]


@pytest.mark.parametrize("bad", [{"rank": 0}, {"dropout": 1.0}, {"init": "zeros"}, {"targets": []}, {"ranks": 3}])
def test_bad_options_are_refused(bad):
    with pytest.raises(ValueError):
        METHODS["lora"].options(**bad)


def test_loftq_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="quantised base"):
        METHODS["lora"].options(init="loftq")


@pytest.mark.parametrize("name", ["eva", "corda", "lora_ga"])
def test_a_start_from_data_needs_data(model, name):
    method = METHODS[name]
    with pytest.raises(ConfigError, match=f"{name} starts from training data"):
        method.prepare(model, method.fit(model, method.options(rank=4)), base_id="base")


def _short_answers(count):
    """Yields right-padded batches of two rows with one learnt token each, of different lengths."""
    for number in range(count // 2):
        ids = torch.randint(3, 300, (2, 6 + number % 3), generator=torch.Generator().manual_seed(number))
        labels = torch.full_like(ids, -100)
        labels[:, -1] = ids[:, -1]
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def test_eva_starts_from_short_answers_or_says_what_it_lacks(model):
    eva = METHODS["eva"]
    course = Course(steps=1, examples=_short_answers)
    options = eva.fit(model, eva.options(rank=4, start_examples=24))
    adapted = eva.prepare_in(model, options, base_id="base", course=course)
    start = next(weight for name, weight in adapted.named_parameters() if "lora_A" in name)
    assert torch.linalg.matrix_rank(start) == 4
    with pytest.raises(ConfigError, match=r"have 6 learnt tokens, and it needs rank x rho of them, 8 \(raise --start"):
        eva.prepare_in(model, options.model_copy(update={"start_examples": 6}), base_id="base", course=course)


def test_eva_takes_its_components_as_they_are_where_they_do_not_settle(model, monkeypatch):
    monkeypatch.setattr("peft_eval.methods.preparing._EVA_BATCHES", 2)
    eva, seen = METHODS["eva"], []
    counting = model.register_forward_pre_hook(lambda *_: seen.append(1))
    course = Course(steps=1, examples=_short_answers)
    eva.prepare_in(model, eva.fit(model, eva.options(rank=8, start_examples=32)), base_id="base", course=course)
    counting.remove()
    assert 2 < len(seen) < 12  # components of random inputs go round for much longer


def test_types_are_read_well():
    kinds = {option: METHODS["lora"].options.model_fields[option].annotation for option in ("bias", "rank_pattern")}
    assert typing.get_args(kinds["bias"]) == ("none", "all", "lora_only")
    assert dict[str, typing.Any] in typing.get_args(kinds["rank_pattern"])
    options = METHODS["lora"].options.model_validate({"layers_to_transform": ["0", "1"], "rank_pattern": {"q_proj": 2}})
    assert (options.layers_to_transform, options.rank_pattern) == ([0, 1], {"q_proj": 2})
