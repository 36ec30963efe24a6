"""A checkpoint written as a plain model folder: what loads from it, what is beside the weights, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from peft_eval.checkpoint.hashing import file_sha256, tokenizer_sha256, weights_sha256
from peft_eval.checkpoint.manifest import BaseRecord, Manifest, MethodRecord, QuantizationRecord
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.errors import BaseMismatchError, CheckpointError, ConfigError, ProbeError, RouteError
from peft_eval.merging import block_writer, export, export_proof, low_rank, sources
from peft_eval.merging.export import export_merged
from peft_eval.merging.merger import AdapterMerger
from peft_eval.merging.tensor_files import INDEX_NAME
from tests.adapters import write_adapter
from tests.tiny import tiny_llama, tiny_t5, tiny_tokenizer

PROMPT = torch.tensor([[5, 9, 70, 81, 33, 12, 44, 91, 5, 17]])
CONFIGS = {
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"),
    "lora-bias": lambda: peft.LoraConfig(r=4, lora_bias=True, target_modules=["q_proj", "down_proj"]),
    "dora": lambda: peft.LoraConfig(r=4, use_dora=True, target_modules=["q_proj", "down_proj"]),
    "embeddings": lambda: peft.LoraConfig(r=4, target_modules=["embed_tokens"]),
    "whole-head": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "ia3": lambda: peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), tied=False)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(scope="module")
def lora(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    write_adapter(base, folder, CONFIGS["lora"]())
    return folder


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    return model.eval()(PROMPT).logits


def _merge(adapter: Path, output: Path, **options: Any) -> export.Export:
    return export_merged(open_checkpoint(str(adapter)), output, **options)


def _leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.mark.parametrize("ends", ["base", "tied"])
@pytest.mark.parametrize("name", CONFIGS)
def test_loads_in_transformers_and_answers_as_pefts_own_merge(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, ends: str
) -> None:
    folder = request.getfixturevalue(ends)
    write_adapter(folder, tmp_path / "adapter", CONFIGS[name]())
    adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), str(tmp_path / "adapter"))
    unmerged = _logits(adapted)
    _merge(tmp_path / "adapter", tmp_path / "merged")
    ours = _logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    assert (ours - unmerged).abs().max() <= 1e-5 * unmerged.abs().max()
    if name not in (
        "lora-bias",
        "embeddings",
        "whole-head",
    ):  # which peft refuses, or leaves tied
        theirs = _logits(adapted.merge_and_unload())
        assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


def test_every_tensor_is_what_merging_in_the_engine_gives_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_llama(tmp_path / "base", tied=False, dtype="bfloat16")
    write_adapter(base, tmp_path / "adapter", CONFIGS["lora"]())
    for module in (block_writer, sources):
        monkeypatch.setattr(module, "BLOCK_BYTES", 1000)  # seven rows of 64, and a rest
    monkeypatch.setattr(low_rank, "_NUMBERS_AT_ONCE", 200)
    torch.set_num_threads(3)
    try:
        found = _merge(tmp_path / "adapter", tmp_path / "merged")
    finally:
        torch.set_num_threads(1)
    weights = load_file(base / "model.safetensors")
    expected = dict(AdapterMerger(tmp_path / "adapter", base).merged(weights.items()))
    written = load_file(tmp_path / "merged" / "model.safetensors")
    assert written.keys() == expected.keys()
    for name, tensor in written.items():
        assert tensor.dtype is torch.bfloat16
        torch.testing.assert_close(tensor, expected[name], rtol=2**-7, atol=0)  # a last bit, where a rounding was close
        assert (tensor == expected[name]).float().mean() > 0.999
    assert (found.files, found.bytes) == (1, sum(tensor.numel() * 2 for tensor in written.values()))
    assert found.proof.changed == sum(not torch.equal(written[name], weights[name]) for name in weights)


def test_shards_and_index_are_those_of_transformers(base: Path, lora: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    model.save_pretrained(tmp_path / "theirs", max_shard_size=200_000)
    found = _merge(lora, tmp_path / "ours", shard_bytes=200_000)
    ours, theirs = (json.loads((tmp_path / who / INDEX_NAME).read_text()) for who in ("ours", "theirs"))
    assert ours["metadata"] == theirs["metadata"] and ours["weight_map"].keys() == theirs["weight_map"].keys()
    sizes = [sum(t.nbytes for t in load_file(file).values()) for file in (tmp_path / "ours").glob("*.safetensors")]
    assert len(sizes) == found.files > 1 and max(sizes) <= 200_000
    for name, file in ours["weight_map"].items():
        assert name in load_file(tmp_path / "ours" / file)
    assert torch.equal(
        _logits(AutoModelForCausalLM.from_pretrained(tmp_path / "ours")),
        _logits(AutoModelForCausalLM.from_pretrained(_merged_in_one(lora, tmp_path))),
    )


def _merged_in_one(adapter: Path, folder: Path) -> Path:
    _merge(adapter, folder / "one")
    return folder / "one"


def test_a_base_in_several_files_beside_others(base: Path, lora: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(sharded, max_shard_size=200_000)
    tiny_tokenizer(sharded)
    save_file({"layers.0.attention.wq.weight": torch.zeros(2)}, sharded / "consolidated.safetensors")
    _merge(lora, tmp_path / "merged", base=str(sharded))
    theirs = load_file(_merged_in_one(lora, tmp_path) / "model.safetensors")
    ours = load_file(tmp_path / "merged" / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_precision_is_in_weights_and_config(base: Path, lora: Path, tmp_path: Path, dtype) -> None:
    found = _merge(lora, tmp_path / "merged", dtype=dtype)
    assert {tensor.dtype for tensor in load_file(tmp_path / "merged" / "model.safetensors").values()} == {dtype}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "merged").dtype is dtype
    assert found.proof.distance is not None and 0 < found.proof.distance < 0.05


def test_numbers_beyond_float16_are_refused(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][3] = 1e5
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    write_adapter(base, tmp_path / "adapter", CONFIGS["lora"]())
    with pytest.raises(ConfigError, match=r"--dtype: model.norm.weight has numbers beyond float16's largest"):
        _merge(tmp_path / "adapter", tmp_path / "merged", dtype=torch.float16)
    assert not (tmp_path / "merged").exists() and not _leftovers(tmp_path)


def test_what_stands_beside_the_weights(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    (base / "generation_config.json").write_text('{"eos_token_id": [1, 2], "temperature": 0.5}')
    config = json.loads((base / "config.json").read_text()) | {"a_key_of_its_own": [1, 2]}
    (base / "config.json").write_text(json.dumps(config))
    adapter = tmp_path / "adapter"
    write_adapter(base, adapter, CONFIGS["lora"]())
    _merge(adapter, tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / "config.json").read_text()) == config
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "plain" / name).read_bytes() == (base / name).read_bytes()
    tiny_tokenizer(adapter, bos=True)
    (adapter / "chat_template.jinja").write_text("{{ messages[0].content }}")
    _merge(adapter, tmp_path / "own")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "own")
    assert tokenizer("one").input_ids[0] == 0
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"
    assert tokenizer_sha256(tmp_path / "own") != tokenizer_sha256(base)


def test_the_manifest_says_what_it_was_merged_from(base: Path, lora: Path, tmp_path: Path) -> None:
    found = _merge(lora, tmp_path / "merged", dtype=torch.bfloat16)
    merged = open_checkpoint(str(tmp_path / "merged"))
    manifest = merged.manifest
    assert merged.kind == "full" and manifest is not None and manifest.merged is not None
    assert manifest.merged.checkpoint_sha256 == open_checkpoint(str(lora)).sha256
    assert (manifest.merged.checkpoint, manifest.merged.dtype) == (str(lora), "bfloat16")
    assert manifest.merged.proof == found.proof.as_record()
    assert (manifest.base.location, manifest.method.name) == (str(base), "lora")
    assert manifest.files.keys() == {path.name for path in merged.folder.iterdir()} - {"peft_eval.json"}
    for name, record in manifest.files.items():
        assert record.sha256 == file_sha256(merged.folder / name)


def test_another_base_is_refused_unless_forced(base: Path, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "other", tied=False, seed=1)
    adapter = tmp_path / "adapter"
    write_adapter(base, adapter, CONFIGS["lora"]())
    told = BaseRecord(location=str(base), weights_sha256=weights_sha256(base))
    Manifest(kind="adapter", created="", base=told, method=MethodRecord(name="lora")).write(adapter)
    with pytest.raises(BaseMismatchError, match=r"was trained on .* \(pass the right --base, or --force-base"):
        _merge(adapter, tmp_path / "merged", base=str(other))
    _merge(adapter, tmp_path / "merged", base=str(other), force_base=True)
    record = Manifest.read(tmp_path / "merged").base
    assert (record.location, record.weights_sha256) == (str(other), weights_sha256(other))


def test_a_quantised_base_is_merged_as_training_saw_it(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra qlora")
    adapter = tmp_path / "adapter"
    write_adapter(base, adapter, CONFIGS["lora"]())
    told = QuantizationRecord(scheme="nf4", double=True, dtype="float32", kept_modules=["lm_head"])
    record = BaseRecord(location=str(base), weights_sha256=weights_sha256(base), quantization=told)
    Manifest(kind="adapter", created="", base=record, method=MethodRecord(name="lora")).write(adapter)
    found = _merge(adapter, tmp_path / "merged")
    weights = load_file(base / "model.safetensors")
    written = load_file(tmp_path / "merged" / "model.safetensors")
    for name, expected in AdapterMerger(adapter, base).merged(weights.items()):
        assert torch.equal(written[name], expected)
    assert found.proof.distance is not None and found.proof.distance <= 1e-5
    plain = AdapterMerger(adapter, base)
    plain._quantised = None
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.allclose(written[name], plain.merge(name, weights[name]), atol=1e-3)


def test_a_base_stored_quantised_is_refused(base: Path, lora: Path, tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(stored)
    config = json.loads((stored / "config.json").read_text())
    (stored / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(RouteError, match=r"stored quantised \(bitsandbytes\).* --base"):
        _merge(lora, tmp_path / "merged", base=str(stored))


def test_an_encoder_decoder(tmp_path: Path) -> None:
    base = tiny_t5(tmp_path / "base")
    from transformers import AutoModelForSeq2SeqLM

    model = peft.get_peft_model(
        AutoModelForSeq2SeqLM.from_pretrained(base),
        peft.LoraConfig(r=4, task_type="SEQ_2_SEQ_LM", init_lora_weights=False),
    )
    model.save_pretrained(tmp_path / "adapter")
    found = _merge(tmp_path / "adapter", tmp_path / "merged")
    assert found.proof.compared == "logits" and (found.proof.effect or 0) > 1e-3


@pytest.mark.parametrize("name", ["lora", "dora", "whole-head"])
def test_large_models_are_proven_layer_by_layer(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(export_proof, "LOADED_PARAMETERS", 0)
    write_adapter(base, tmp_path / "adapter", CONFIGS[name]())
    proof = _merge(tmp_path / "adapter", tmp_path / "merged", dtype=torch.bfloat16).proof
    assert (proof.compared, proof.layers) == ("layers", {"lora": 14, "dora": 4, "whole-head": 2}[name])
    assert proof.distance is not None and 1e-4 < proof.distance < 0.02


@pytest.mark.parametrize("largest", [0, 10**9])
def test_a_wrong_merge_is_found_and_leaves_what_was_there(
    lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    _merge(lora, tmp_path / "merged")
    before = {path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()}
    monkeypatch.setattr(export_proof, "LOADED_PARAMETERS", largest)
    right = low_rank.LowRankChange.add_to

    def wrong(self: low_rank.LowRankChange, rows: torch.Tensor, first: int, out: torch.Tensor) -> None:
        right(low_rank.LowRankChange(self.down, self.up, 1.1 * self.scale), rows, first, out)

    monkeypatch.setattr(low_rank.LowRankChange, "add_to", wrong)
    with pytest.raises(ProbeError, match=r"merged and unmerged .* differ by"):
        _merge(lora, tmp_path / "merged", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "merged").iterdir()} == before
    assert not _leftovers(tmp_path)


@pytest.mark.parametrize("what", ["header", "copy", "name"])
def test_a_file_that_is_not_what_was_written_is_found(
    lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    original = export.write_files

    def spoiled(folder: Path, *rest: Any) -> dict[str, str]:
        hashes = original(folder, *rest)
        file = folder / "model.safetensors"
        if what == "header":
            os.truncate(file, file.stat().st_size - 4)
            return hashes
        weights = load_file(file)
        if what == "name":
            weights["model.nrom.weight"] = weights.pop("model.norm.weight")
        else:
            weights["model.norm.weight"][-1] += 1
        save_file(weights, file, metadata={"format": "pt"})
        return hashes

    monkeypatch.setattr(export, "write_files", spoiled)
    words = {"header": "cannot be read", "copy": "model.norm.weight is not what the base has", "name": "model.nrom"}
    with pytest.raises(ProbeError, match=words[what]):
        _merge(lora, tmp_path / "merged")
    assert not (tmp_path / "merged").exists() and not _leftovers(tmp_path)


def test_an_adapter_that_changes_nothing_is_refused(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "adapter", CONFIGS["lora"](), scale=0)
    with pytest.raises(ProbeError, match="the adapter changes nothing"):
        _merge(tmp_path / "adapter", tmp_path / "merged")


def test_what_has_no_merged_form_is_refused_with_the_reason(base: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "adapter", peft.PromptTuningConfig(num_virtual_tokens=4))
    with pytest.raises(RouteError, match="PROMPT_TUNING adds virtual tokens, it has no merged form"):
        _merge(tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists() and not _leftovers(tmp_path)


def test_outputs_that_would_be_lost_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "all" / "adapter"
    write_adapter(base, adapter, CONFIGS["lora"]())
    for output in (adapter, tmp_path / "all"):
        with pytest.raises(ConfigError, match="the folder is read from"):
            _merge(adapter, output, overwrite=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"not empty \(name another --output, or --overwrite\)"):
        _merge(adapter, tmp_path / "full")
    with pytest.raises(ConfigError, match="a file is there"):
        _merge(adapter, tmp_path / "full" / "notes.txt", overwrite=True)
    with FileLock(tmp_path / ".merged.lock"), pytest.raises(ConfigError, match="another merge is writing there"):
        _merge(adapter, tmp_path / "merged")


def test_a_broken_base_is_refused_before_anything_is_written(base: Path, lora: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(broken)
    file = broken / "model.safetensors"
    os.truncate(file, file.stat().st_size - 4)
    with pytest.raises(CheckpointError):
        _merge(lora, tmp_path / "merged", base=str(broken))
    file.unlink()
    with pytest.raises(CheckpointError):
        _merge(lora, tmp_path / "merged", base=str(broken))
    assert not (tmp_path / "merged").exists() and not _leftovers(tmp_path)


def test_whole_models_are_copied_and_cast(base: Path, lora: Path, tmp_path: Path) -> None:
    _merge(lora, tmp_path / "merged")
    found = _merge(tmp_path / "merged", tmp_path / "half", dtype=torch.bfloat16, shard_bytes=100_000)
    assert found.files > 1 and found.proof.changed == 0
    theirs = load_file(tmp_path / "merged" / "model.safetensors")
    for name, tensor in AutoModelForCausalLM.from_pretrained(tmp_path / "half").state_dict().items():
        assert torch.equal(tensor, theirs[name].to(torch.bfloat16))
    manifest = Manifest.read(tmp_path / "half")
    assert manifest.merged is not None and manifest.merged.checkpoint == str(tmp_path / "merged")
    assert manifest.base.location == str(base)
    with pytest.raises(ConfigError, match="a base given beside full weights"):
        _merge(tmp_path / "merged", tmp_path / "again", base=str(base))


def test_a_full_disk_leaves_nothing(lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0

    def write(descriptor: int, content: memoryview, position: int, *, large: bool) -> int:
        nonlocal written
        written += len(content)
        if written > 200_000:
            raise OSError(28, "No space left on device")
        return os.pwrite(descriptor, content, position)

    monkeypatch.setattr(block_writer, "write_at", write)
    with pytest.raises(CheckpointError, match="no space left on the disk"):
        _merge(lora, tmp_path / "merged")
    assert written > 200_000 and not (tmp_path / "merged").exists() and not _leftovers(tmp_path)


def test_a_small_disk_is_refused_before_and_survived_while_writing(
    lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        with pytest.raises(CheckpointError, match=r"no space left on the disk: 0 MB free, 1 MB needed"):
            _merge(lora, disk / "merged")
        room = type("Usage", (), {"free": 10**12})
        monkeypatch.setattr(export.shutil, "disk_usage", lambda path: room)
        with pytest.raises(CheckpointError, match="no space left on the disk"):
            _merge(lora, disk / "merged")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_interrupted_it_leaves_nothing(lora: Path, tmp_path: Path) -> None:
    def interrupt(count: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _merge(lora, tmp_path / "merged", on_bytes=interrupt)
    assert not (tmp_path / "merged").exists() and not _leftovers(tmp_path)


def test_killed_it_leaves_no_output_and_the_next_run_cleans_up(lora: Path, tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        try:
            _merge(lora, tmp_path / "merged", on_bytes=lambda count, total: os.kill(os.getpid(), signal.SIGKILL))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "merged").exists() and ".partial-merged" in _leftovers(tmp_path)
    _merge(lora, tmp_path / "merged")
    assert (tmp_path / "merged" / "peft_eval.json").is_file() and not _leftovers(tmp_path)


def test_killed_between_the_two_renames_of_an_overwrite_the_old_folder_comes_back(lora: Path, tmp_path: Path) -> None:
    _merge(lora, tmp_path / "merged")
    (tmp_path / "merged").rename(tmp_path / ".replaced-merged")
    with pytest.raises(ZeroDivisionError), export._in_place_of(tmp_path / "merged"):
        1 / 0  # noqa: B018
    assert (tmp_path / "merged" / "model.safetensors").is_file() and not _leftovers(tmp_path)
