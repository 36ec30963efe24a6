"""Merged tensor by tensor equals peft's own merge_and_unload, for every kind of adapter that merges."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from peft_eval.errors import BaseMismatchError, CheckpointError, RouteError
from peft_eval.merging.merger import AdapterMerger
from tests.adapters import write_adapter
from tests.tiny import tiny_llama

CONFIGS = {
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"),
    "lora-rslora": lambda: peft.LoraConfig(r=4, use_rslora=True, target_modules=["q_proj", "v_proj"]),
    "lora-patterns": lambda: peft.LoraConfig(
        r=4, rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32}, target_modules=["q_proj", "v_proj"]
    ),
    "lora-one-layer": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], layers_to_transform=[1]),
    "lora-head": lambda: peft.LoraConfig(r=4, target_modules=["q_proj", "lm_head"]),
    "lora-modules-to-save": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "dora": lambda: peft.LoraConfig(r=4, use_dora=True, target_modules=["q_proj", "down_proj"]),
    "ia3": lambda: peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "loha": lambda: peft.LoHaConfig(r=4, target_modules=["q_proj", "v_proj"]),
    "lokr": lambda: peft.LoKrConfig(r=4, target_modules=["q_proj", "v_proj"]),
    "oft": lambda: peft.OFTConfig(oft_block_size=32, r=0, target_modules=["q_proj"]),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), tied=False)


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_pefts_own_merge(base: Path, tmp_path: Path, name: str) -> None:
    expected = write_adapter(base, tmp_path, CONFIGS[name]())
    weights = load_file(base / "model.safetensors")
    merger = AdapterMerger(tmp_path, base)
    merged = dict(merger.merged(weights.items()))
    changed = {key for key in weights if not torch.equal(merged[key], weights[key])}
    assert changed == merger.targets
    for key in weights:
        torch.testing.assert_close(merged[key], expected[key], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_merges_in_float32_and_rounds_once(base: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    expected = write_adapter(base, tmp_path, CONFIGS["lora"]())
    weights = load_file(base / "model.safetensors")
    merged = dict(AdapterMerger(tmp_path, base, dtype=dtype).merged(weights.items()))
    key = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(merged[key], expected[key].to(dtype))


def test_the_order_of_tensors_does_not_matter_and_merging_repeats(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, CONFIGS["dora"]())
    weights = load_file(base / "model.safetensors")
    merger = AdapterMerger(tmp_path, base)
    forward = dict(merger.merged(weights.items()))
    backward = dict(merger.merged(reversed(weights.items())))
    assert all(torch.equal(forward[key], backward[key]) for key in weights)


def test_a_stream_that_ends_early_is_an_error(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, CONFIGS["lora"]())
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.1.self_attn.q_proj.weight"]
    with pytest.raises(CheckpointError, match=r"never came by: model.layers.1.self_attn.q_proj.weight"):
        dict(AdapterMerger(tmp_path, base).merged(weights.items()))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (lambda: peft.PromptTuningConfig(num_virtual_tokens=4), "virtual tokens"),
        (lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa"), "altered the base"),
        (lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="olora"), "altered the base"),
        (lambda: peft.LilyConfig(r=4, target_modules=["q_proj"]), "not supported for Lily"),
        (lambda: peft.AdaptionPromptConfig(adapter_len=4, adapter_layers=1), "changes no weight of the base"),
    ],
)
def test_what_has_no_exact_merge_is_refused_with_the_reason(base: Path, tmp_path: Path, config, words: str) -> None:
    write_adapter(base, tmp_path, config())
    with pytest.raises(RouteError, match=words):
        AdapterMerger(tmp_path, base)


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    for name, tensor in tensors.items():
        key = next((key for key in state if name in key), name)
        if tensor is None:
            del state[key]
        else:
            state[key] = tensor
    save_file(state, path)


def test_nan_is_refused_by_tensor(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, CONFIGS["lora"]())
    change(tmp_path, **{"layers.0.self_attn.q_proj.lora_A": torch.full((4, 64), float("nan"))})
    with pytest.raises(CheckpointError, match=r"q_proj.lora_A.weight has NaN"):
        AdapterMerger(tmp_path, base)


def test_keys_that_match_nothing_are_refused(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, CONFIGS["lora"]())
    change(tmp_path, **{"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(4, 64)})
    with pytest.raises(CheckpointError, match=r"1 adapter tensors match nothing in the base: .*layers.9"):
        AdapterMerger(tmp_path, base)


def test_missing_keys_are_refused(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path, CONFIGS["lora"]())
    change(tmp_path, **{"layers.0.self_attn.q_proj.lora_B": None})
    with pytest.raises(CheckpointError, match="1 adapter tensors are missing"):
        AdapterMerger(tmp_path, base)


def test_a_base_of_another_shape_is_refused(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "adapter", CONFIGS["lora"]())
    other = tiny_llama(tmp_path / "other", hidden=128, heads=2)
    with pytest.raises(BaseMismatchError, match="size mismatch"):
        AdapterMerger(tmp_path / "adapter", other)


def test_a_base_of_another_architecture_is_refused(base: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    write_adapter(base, tmp_path / "adapter", CONFIGS["lora"]())
    GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=1, n_head=1)).save_pretrained(
        str(tmp_path / "gpt2")
    )
    with pytest.raises(BaseMismatchError, match="does not fit this base"):
        AdapterMerger(tmp_path / "adapter", tmp_path / "gpt2")
