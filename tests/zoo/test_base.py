"""The embedded base: small, safetensors only, the files that its card names, loadable and able to write."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from peft_eval.checkpoint.hashing import file_sha256
from peft_eval.data.mini.words import NOUNS
from peft_eval.resources import zoo_folder

LARGEST_BYTES = 16_000_000


@pytest.fixture(scope="module")
def base() -> Path:
    return zoo_folder() / "base"


@pytest.fixture(scope="module")
def loaded(base: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)


def test_it_is_small_and_has_no_pickles(base: Path):
    files = sorted(file.name for file in base.iterdir())
    assert files == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.json",
        "zoo.json",
    ]
    assert sum(file.stat().st_size for file in base.iterdir()) <= LARGEST_BYTES


def test_its_files_are_those_of_its_record_and_card(base: Path):
    record = json.loads((base / "training.json").read_text(encoding="utf-8"))
    card = (base / "README.md").read_text(encoding="utf-8")
    for name, sha256 in record["sha256"].items():
        assert file_sha256(base / name) == sha256
        assert sha256 in card
    for key in ("steps", "tokens", "parameters", "seconds"):
        assert f"{record[key]:,}" in card, key


def test_the_card_names_options_that_its_script_has(base: Path):
    card = (base / "README.md").read_text(encoding="utf-8")
    command = re.search(r"scripts/train_base\.py[^`]*", card)
    assert command is not None
    script = zoo_folder().parent / "scripts" / "train_base.py"
    if not script.is_file():
        pytest.skip("an installed wheel has no scripts/")
    source = script.read_text(encoding="utf-8")
    for option in re.findall(r"--[a-z-]+", command[0]):
        assert f'"{option}"' in source


def test_vllm_can_serve_its_shape(base: Path):
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["head_dim"] == 64
    assert config["dtype"] == "bfloat16"
    assert config["max_position_embeddings"] == 1024


def test_prompts_begin_with_bos_and_text_survives_the_tokenizer(loaded):
    _, tokenizer = loaded
    text = 'Sort: 12, 7 | "été" -> é\n\tNEW line {x} '
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id == 0
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")


def test_it_copies_a_line_that_it_has_seen_and_cannot_guess_it_before(loaded):
    model, tokenizer = loaded
    rng = random.Random(0)
    guessed: list[bool] = []
    copied: list[bool] = []
    for _ in range(20):
        line = " ".join(rng.sample(NOUNS, 6))
        ids = tokenizer(f"{line}\n{line}", return_tensors="pt")["input_ids"]
        length = (ids.shape[1] - 2) // 2
        right = (model(ids).logits[0, :-1].argmax(-1) == ids[0, 1:]).tolist()
        guessed += right[1:length]
        copied += right[length + 2 :]
    assert sum(guessed) / len(guessed) < 0.1
    assert sum(copied) / len(copied) > 0.9


def test_it_generates(loaded):
    model, tokenizer = loaded
    prompt = tokenizer("pear lamp horse box\npear lamp", return_tensors="pt")
    made = model.generate(**prompt, max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(made[0, prompt["input_ids"].shape[1] :]) == " horse box"
