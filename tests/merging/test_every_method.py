"""Every method that trains an adapter: merged tensor by tensor it answers as the unmerged model, or it is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from peft_eval import plugins
from peft_eval.checkpoint.writing import save_adapter
from peft_eval.errors import RouteError
from peft_eval.merging.merger import AdapterMerger
from tests.adapters import prepared_adapter, write_adapter
from tests.tiny import tiny_llama

PROMPT = torch.tensor([[5, 9, 70, 81, 33, 12, 44, 91, 5, 17]])
ADAPTERS = [name for name, method in plugins.methods().items() if method.kind == "adapter"]
# Relative to the largest logit. bfloat16 keeps 8 bits of each weight; the largest seen is printed by pytest -rP.
BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 0.1}
CONFIGS = {
    "bias-of-a-llama": lambda: peft.LoraConfig(r=4, lora_bias=True, target_modules=["q_proj", "down_proj"]),
    "tokens": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[5, 9]),
    "parameters": lambda: peft.LoraConfig(r=4, target_modules=[], target_parameters=["q_proj.weight"]),
    "embeddings": lambda: peft.LoraConfig(r=4, target_modules=["embed_tokens"]),
    "head": lambda: peft.LoraConfig(r=4, target_modules=["lm_head", "q_proj"]),
    "whole-embeddings": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"]),
    "whole-head": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "whole-ends": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    "norm": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["input_layernorm"]),
    "vera-of-a-seed": lambda: peft.VeraConfig(r=8, save_projection=False),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), tied=False)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tied"), tied=True)


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    return model.eval()(PROMPT).logits[:, -PROMPT.shape[1] :]


def _unmerged(base: Path, adapter: Path) -> torch.Tensor:
    return _logits(peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)))


def _merged(base: Path, merger: AdapterMerger, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    plain = AutoModelForCausalLM.from_pretrained(base)
    config = copy.deepcopy(plain.config)
    for name, value in merger.config_overrides.items():
        setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config)
    tensors = dict(merger.merged(load_file(base / "model.safetensors").items()))
    missing, unexpected = model.load_state_dict(
        {name: tensor.float() for name, tensor in tensors.items()}, strict=False
    )
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    assert {tensor.dtype for name, tensor in tensors.items() if name in merger.targets} <= {dtype}
    return _logits(model)


def _distance(left: torch.Tensor, right: torch.Tensor) -> float:
    return ((left - right).abs().max() / right.abs().max()).item()


@pytest.mark.parametrize("name", ADAPTERS)
def test_merged_answers_as_unmerged(base: Path, tmp_path: Path, name: str) -> None:
    model = prepared_adapter(plugins.methods()[name], base)
    plain = _logits(AutoModelForCausalLM.from_pretrained(base))
    save_adapter(model, tmp_path)
    unmerged = _unmerged(base, tmp_path)
    assert _distance(unmerged, plain) > 1e-3
    try:
        merger = AdapterMerger(tmp_path, base)
    except RouteError as error:
        assert "cannot be merged: " in str(error)
        with pytest.raises((AttributeError, NotImplementedError, ValueError)):  # nor can peft
            model.merge_and_unload()
        return
    assert _distance(_merged(base, merger), unmerged) <= BOUNDS[torch.float32]
    rounded = AdapterMerger(tmp_path, base, dtype=torch.bfloat16)
    distance = _distance(_merged(base, rounded, torch.bfloat16), unmerged)
    print(f"{name}: merged in bfloat16, the logits differ by {distance:.1e} of the largest")
    assert distance <= BOUNDS[torch.bfloat16]


@pytest.mark.parametrize("ends", ["tied", "base"])
@pytest.mark.parametrize("name", CONFIGS)
def test_settings_of_peft(request: pytest.FixtureRequest, tmp_path: Path, name: str, ends: str) -> None:
    folder = request.getfixturevalue(ends)
    write_adapter(folder, tmp_path, CONFIGS[name]())
    merger = AdapterMerger(tmp_path, folder)
    assert _distance(_merged(folder, merger), _unmerged(folder, tmp_path)) <= BOUNDS[torch.float32]


def test_added_biases_change_the_config(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, CONFIGS["bias-of-a-llama"]())
    merger = AdapterMerger(tmp_path, base)
    assert merger.config_overrides == {"attention_bias": True, "mlp_bias": True}
    extras = dict(merger.extra_tensors())
    assert {name: tuple(tensor.shape) for name, tensor in extras.items()} == merger.extra_shapes
    assert len(extras) == 2 * 7
    given = {name for name, tensor in extras.items() if tensor.any()}
    assert {name.split(".")[-2] for name in given} == {"q_proj", "down_proj"} and len(given) == 4


def test_a_changed_end_of_two_tied_ones_unties_them(tied: Path, tmp_path: Path) -> None:
    write_adapter(tied, tmp_path, CONFIGS["embeddings"]())
    merger = AdapterMerger(tmp_path, tied)
    assert merger.config_overrides == {"tie_word_embeddings": False}
    embeddings = load_file(tied / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(dict(merger.extra_tensors())["lm_head.weight"], embeddings)
    assert not torch.equal(merger.merge("model.embed_tokens.weight", embeddings), embeddings)


def test_trained_biases_of_the_base(tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=384, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "qwen")
    for name, bias in (("all", "all"), ("lora", "lora_only")):
        adapter = tmp_path / name
        write_adapter(tmp_path / "qwen", adapter, peft.LoraConfig(r=4, target_modules=["q_proj", "o_proj"], bias=bias))
        merger = AdapterMerger(adapter, tmp_path / "qwen")
        assert _distance(_merged(tmp_path / "qwen", merger), _unmerged(tmp_path / "qwen", adapter)) <= 1e-5
        assert any(name.endswith(".bias") for name in merger.targets) and not merger.config_overrides
    write_adapter(tmp_path / "qwen", tmp_path / "road", peft.RoadConfig(target_modules=["q_proj"], group_size=16))
    merger = AdapterMerger(tmp_path / "road", tmp_path / "qwen")
    assert _distance(_merged(tmp_path / "qwen", merger), _unmerged(tmp_path / "qwen", tmp_path / "road")) <= 1e-5


def test_a_resized_vocabulary(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(400)
    model.save_pretrained(tmp_path / "resized")
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    write_adapter(tmp_path / "resized", tmp_path / "adapter", config)
    merger = AdapterMerger(tmp_path / "adapter", base)
    assert merger.config_overrides == {"vocab_size": 400}
    expected = _unmerged(tmp_path / "resized", tmp_path / "adapter")
    assert _distance(_merged(base, merger), expected) <= 1e-5


def test_a_resized_vocabulary_without_its_head_is_refused(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(400)
    model.save_pretrained(tmp_path / "resized")
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    write_adapter(tmp_path / "resized", tmp_path / "adapter", config)
    with pytest.raises(RouteError, match=r"vocabulary has 400 rows, and it brings no lm_head.weight"):
        AdapterMerger(tmp_path / "adapter", base)


def test_biases_without_a_place_are_refused(tmp_path: Path) -> None:
    from transformers import GemmaConfig, GemmaForCausalLM

    config = GemmaConfig(
        vocab_size=384, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32,
    )  # fmt: skip
    GemmaForCausalLM(config).save_pretrained(tmp_path / "gemma")
    write_adapter(tmp_path / "gemma", tmp_path / "adapter", peft.BeftConfig(target_modules=["down_proj"]))
    with pytest.raises(RouteError, match=r"adds a bias to model.layers.0.mlp.down_proj, and a gemma has no setting"):
        AdapterMerger(tmp_path / "adapter", tmp_path / "gemma")


def test_a_merge_that_lies_is_refused(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_adapter(base, tmp_path, peft.LoraConfig(r=4, target_modules=["q_proj"]))
    original = peft.tuners.lora.Linear.get_delta_weight
    monkeypatch.setattr(peft.tuners.lora.Linear, "get_delta_weight", lambda self, name: 1.1 * original(self, name))
    with pytest.raises(RouteError, match="a merged Linear differs from the unmerged one by"):
        AdapterMerger(tmp_path, base)
