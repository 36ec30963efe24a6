"""Checkpoints of other trainers, in the layouts that their documentation shows: what is told, what stays unknown."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest

from peft_eval.checkpoint.zoo_index import find
from peft_eval.errors import BaseMismatchError, CheckpointError
from peft_eval.zoo.adding import Addition, add
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.records import About
from tests.adapters import write_adapter
from tests.tiny import tiny_llama

BASE = "zoo:tiny-base"
HISTORY = [{"step": 10, "loss": 2.5, "learning_rate": 1e-4}, {"step": 20, "loss": 2.0}, {"step": 20, "eval_loss": 2.1}]
STATE = {"global_step": 20, "epoch": 1.0, "train_batch_size": 4, "log_history": HISTORY}


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    """What `PeftModel.save_pretrained` writes for a base in a folder, and the pickle that transformers adds."""
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    write_adapter(tiny_base, tmp_path / "outputs", config)
    (tmp_path / "outputs" / "training_args.bin").write_bytes(b"a pickle")
    return tmp_path / "outputs"


def about(folder: Path, zoo: FolderZoo, **more: object) -> About:
    """Adds a checkpoint and returns what is recorded of it."""
    added = add(Addition(str(folder), probes=False, **more), zoo)
    assert "training_args.bin" in added.left_out
    return added.record.about


def test_peft_by_itself(folder: Path, filled: FolderZoo) -> None:
    found = about(folder, filled, base=BASE)
    assert (found.method, found.base, found.parameters) == ("lora", BASE, 2 * 2 * (64 * 4 + 4 * 64))
    assert found.base_sha256 == find(BASE).row["weights_sha256"]
    assert found.facts["rank"] == "4 (adapter_config.json)" and found.facts["base"] == f"{BASE}, as --base says"
    expected = {"data", "trainer", "created", "licence", "losses", "BOS and EOS policy", "chat template of training"}
    assert set(found.unknown) == expected
    card = (find("zoo:outputs").folder / "README.md").read_text()
    assert "library_name: peft" in card and "Nothing in the checkpoint tells: " in card and "| rank | 4" in card


def test_a_base_in_a_folder_is_found_by_its_hash_or_asked_for(folder: Path, filled: FolderZoo, tmp_path: Path) -> None:
    assert about(folder, filled).base == BASE
    unknown = tiny_llama(tmp_path / "unknown", seed=7)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(unknown)}))
    with pytest.raises(CheckpointError, match=r"a folder of this machine.*--base ORG/NAME"):
        about(folder, filled)
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(CheckpointError, match="does not name its base"):
        about(folder, filled)


def test_a_base_that_the_manifest_contradicts_is_refused(made: Path, filled: FolderZoo, tmp_path: Path) -> None:
    add(Addition(str(tiny_llama(tmp_path / "another", seed=7))), filled)
    with pytest.raises(BaseMismatchError, match="the checkpoint was trained on"):
        add(Addition(str(made), base="zoo:another"), filled)


def test_trl(folder: Path, filled: FolderZoo) -> None:
    (folder / "README.md").write_text(
        "---\nbase_model: org/tiny\nlibrary_name: peft\nmodel_name: outputs\ntags:\n- lora\n"
        "- sft\n- transformers\n- trl\nlicence: license\ndatasets: trl-lib/Capybara\n---\n\n# Model Card\n\n"
        "### Framework versions\n\n- PEFT 0.21.2\n- TRL: 0.24.0\n- Transformers: 5.19.0\n"
    )
    (folder / "trainer_state.json").write_text(json.dumps(STATE))
    found = about(folder, filled, base=BASE)
    assert (found.trainer, found.data) == ("TRL 0.24.0 sft", "trl-lib/Capybara")
    assert found.losses == [(10, 2.5), (20, 2.0)] and found.facts["steps"] == "20 (trainer_state.json)"
    assert found.facts["TRL version"] == "0.24.0 (README.md)" and "licence" in found.unknown
    place = find("zoo:outputs").folder
    assert "TRL: 0.24.0" in (place / "README.md").read_text()  # its author's card stays
    assert not (place / "trainer_state.json").exists()


def test_axolotl(folder: Path, filled: FolderZoo) -> None:
    (folder / "README.md").write_text(
        "---\nlibrary_name: peft\nlicense: apache-2.0\nbase_model: org/tiny\ntags:\n- axolotl\n"
        "- generated_from_trainer\n---\n\n<details><summary>See axolotl config</summary>\n\n"
        "axolotl version: `0.13.0`\n```yaml\nbase_model: org/tiny\nadapter: lora\nlora_r: 4\n"
        "datasets:\n  - path: tatsu-lab/alpaca\n    type: alpaca\nlearning_rate: 0.0002\n"
        "num_epochs: 3\nmicro_batch_size: 2\nsequence_len: 2048\n```\n\n</details><br>\n"
    )
    found = about(folder, filled, base=BASE)
    assert (found.trainer, found.data, found.licence) == ("axolotl 0.13.0", "tatsu-lab/alpaca", "apache-2.0")
    assert found.facts["learning rate"] == "0.0002 (README.md)" and found.facts["num epochs"] == "3 (README.md)"


def test_llama_factory(folder: Path, filled: FolderZoo) -> None:
    (folder / "README.md").write_text(
        "---\nlibrary_name: peft\nlicense: other\nbase_model: org/tiny\ntags:\n- llama-factory\n- lora\n"
        "- generated_from_trainer\n---\n\nThis model is a fine-tuned version of "
        "[org/tiny](https://huggingface.co/org/tiny) on the identity dataset.\n"
    )
    log = [
        {"current_steps": 5, "total_steps": 10, "loss": 1.5, "lr": 1e-4, "epoch": 0.5},
        {"current_steps": 10, "loss": 1.2},
    ]
    (folder / "trainer_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    found = about(folder, filled, base=BASE)
    assert (found.trainer, found.data, found.licence) == ("LLaMA-Factory", "identity", None)
    assert found.losses == [(5, 1.5), (10, 1.2)]
    (folder / "training_args.yaml").write_text(
        "stage: sft\nfinetuning_type: lora\nmodel_name_or_path: org/tiny\ndataset: identity,alpaca_en_demo\n"
        "learning_rate: 1.0e-4\nnum_train_epochs: 3.0\ntemplate: llama3\ncutoff_len: 2048\n"
    )
    found = about(folder, filled, base=BASE)
    assert found.data == "identity,alpaca_en_demo" and found.facts["template"] == "llama3 (training_args.yaml)"


def test_torchtune(folder: Path, filled: FolderZoo) -> None:
    (folder.parent / "torchtune_config.yaml").write_text(
        "model:\n  _component_: torchtune.models.llama3_2.lora_llama3_2_1b\n  lora_rank: 4\ndataset:\n"
        "  _component_: torchtune.datasets.alpaca_cleaned_dataset\noptimizer:\n  _component_: torch.optim.AdamW\n"
        "  lr: 3e-4\nepochs: 1\nbatch_size: 2\nseed: null\n"
    )
    epoch = folder.rename(folder.parent / "epoch_0")
    found = about(epoch, filled, base=BASE, name="tuned")
    assert (found.trainer, found.data) == ("torchtune", "torchtune.datasets.alpaca_cleaned_dataset")
    assert found.facts["learning rate"] == "3e-4 (torchtune_config.yaml)" and "seed" not in found.facts


@pytest.mark.parametrize("text", ["---\n: [\n---\n", "---\n- a\n---\n", "\0", "---\n" + "a: {" * 5000 + "\n---\n"])
def test_a_card_that_is_none_tells_nothing(folder: Path, filled: FolderZoo, text: str) -> None:
    (folder / "README.md").write_text(text)
    (folder / "trainer_state.json").write_text("[" * 50)
    assert about(folder, filled, base=BASE).trainer is None
