"""A folder with a manifest is whole; everything else leaves what was there before."""

import errno
import stat
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from peft_eval.checkpoint.hashing import file_sha256
from peft_eval.checkpoint.manifest import MANIFEST_NAME, BaseRecord, Manifest, MethodRecord
from peft_eval.checkpoint.writing import (
    copy_companions,
    flush_to_disk,
    is_disk_full,
    load_adapter_weights,
    publish,
    save_adapter,
    save_full,
    scratch_of,
    whole_or_nothing,
)
from peft_eval.errors import CheckpointError, DivergenceError
from tests.tiny import tiny_llama

MANIFEST = Manifest(
    kind="adapter", created="2026-01-01", base=BaseRecord(location="base"), method=MethodRecord(name="lora")
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def adapted(base):
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(base)
    return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))


def test_a_folder_appears_at_the_end(tmp_path):
    folder = tmp_path / "new"
    with whole_or_nothing(folder) as scratch:
        (scratch / "a").write_text("1")
        assert not folder.exists()
    assert (folder / "a").read_text() == "1"
    assert list(tmp_path.iterdir()) == [folder]


def test_an_error_leaves_the_old_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_or_nothing(folder) as scratch:
        (scratch / "new").write_text("new")
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_leavings_of_a_killed_run_are_not_mixed_in(tmp_path):
    folder = tmp_path / "folder"
    scratch_of(folder).mkdir()
    (scratch_of(folder) / "left").write_text("half")
    with whole_or_nothing(folder) as scratch:
        (scratch / "a").write_text("1")
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_a_full_disk_is_told_plainly(tmp_path):
    with (
        pytest.raises(CheckpointError, match=r"no space left on the disk: [\d,]+ MB free \(free some"),
        whole_or_nothing(tmp_path / "folder"),
    ):
        Path("/dev/full").write_text("x" * 100)  # a device whose every write fails for want of space
    assert not list(tmp_path.iterdir())


def test_libraries_say_full_disk_in_their_own_words(tmp_path):
    assert is_disk_full(OSError(errno.EDQUOT, "Disk quota exceeded"), tmp_path)
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"), tmp_path)
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"), tmp_path)
    assert not is_disk_full(RuntimeError("PytorchStreamWriter failed"), tmp_path)  # there is room: another cause


def test_the_manifest_records_every_file(tmp_path):
    scratch, output = tmp_path / "scratch", tmp_path / "output"
    scratch.mkdir()
    output.mkdir()
    (scratch / "adapter_model.safetensors").write_bytes(b"weights")
    (scratch / "tokenizer.json").write_bytes(b"{}")
    (output / "model.safetensors").write_bytes(b"of an older checkpoint")
    (output / "mine.txt").write_bytes(b"of the user")
    publish(scratch, output, MANIFEST)
    files = Manifest.read(output).files
    assert {name: record.bytes for name, record in files.items()} == {
        "adapter_model.safetensors": 7,
        "tokenizer.json": 2,
    }
    assert files["tokenizer.json"].sha256 == file_sha256(output / "tokenizer.json")
    assert sorted(path.name for path in output.iterdir()) == sorted([*files, "mine.txt", MANIFEST_NAME])


def test_weights_that_are_no_numbers_are_refused(adapted, base, tmp_path):
    with torch.no_grad():
        adapted.base_model.model.model.layers[1].self_attn.q_proj.lora_A["default"].weight[0, 0] = float("nan")
    with pytest.raises(DivergenceError, match=r"1 trained tensors hold NaN or infinity: .*layers\.1.*lora_A"):
        save_adapter(adapted, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.norm.weight[0] = float("inf")
    with pytest.raises(DivergenceError, match=r"NaN or infinity: model\.norm\.weight"):
        save_full(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_adapter_weights_return_exactly(adapted, tmp_path):
    layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    saved = layer.lora_B["default"].weight.detach().clone()
    save_adapter(adapted, tmp_path)
    assert not adapted.peft_config["default"].inference_mode  # it goes on training
    torch.nn.init.zeros_(layer.lora_B["default"].weight)
    load_adapter_weights(adapted, tmp_path)
    assert torch.equal(layer.lora_B["default"].weight, saved)
    assert layer.lora_B["default"].weight.requires_grad


def test_adapter_weights_of_another_shape_of_model_are_refused(adapted, base, tmp_path):
    from peft import LoraConfig, get_peft_model

    save_adapter(adapted, tmp_path)
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    other = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with pytest.raises(CheckpointError, match="4 weights do not fit"):
        load_adapter_weights(other, tmp_path)


def test_saving_in_another_precision_leaves_the_model_alone(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base)
    save_full(model, tmp_path, dtype=torch.bfloat16)
    assert model.config.dtype is torch.float32
    assert next(model.parameters()).dtype is torch.float32
    assert AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").dtype is torch.bfloat16


def test_others_may_read_what_was_written(adapted, base, tmp_path):
    save_adapter(adapted, tmp_path)
    copy_companions(base, tmp_path, full=False)
    flush_to_disk(tmp_path)
    plain = tmp_path / "plain"
    plain.touch()
    expected = stat.S_IMODE(plain.stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {expected}
    assert (tmp_path / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert not (tmp_path / "generation_config.json").exists()
