"""A run against a plain PyTorch loop, and the checkpoint that comes out against plain peft."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, get_scheduler

from peft_eval.checkpoint.hashing import tokenizer_sha256, weights_sha256
from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest
from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.errors import CheckpointError, ConfigError, PeftEvalError
from peft_eval.training.run import train
from peft_eval.training.setup import set_up
from tests.tiny import tiny_llama

SILENT = {"say": lambda line: None}


def _reference(spec, steps_seen):
    """Trains with nothing but torch: one example at a time, one division by the step's answer tokens."""
    setup = set_up(spec)
    model = AutoModelForCausalLM.from_pretrained(spec.base)
    if spec.method == "lora":
        torch.manual_seed(spec.seed)
        rank = spec.options["rank"]
        config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
        model = get_peft_model(model, config)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    decayed = [weight for weight in weights if weight.ndim > 1]
    groups = [
        {"params": decayed, "weight_decay": spec.weight_decay},
        {"params": [weight for weight in weights if weight.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=spec.learning_rate)
    warmup = round(spec.warmup_ratio * len(steps_seen))
    schedule = get_scheduler(spec.scheduler, optimizer, num_warmup_steps=warmup, num_training_steps=len(steps_seen))
    losses = []
    for indices in steps_seen:
        rows = [setup.tokens.rows[index] for index in indices]
        answer_tokens = sum(row.target_tokens for row in rows)
        total = 0.0
        for row in rows:
            ids = torch.from_numpy(row.ids).long()[None]
            logits = model(ids).logits[0, row.source_tokens - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits, ids[0, row.source_tokens :], reduction="sum")
            (loss / answer_tokens).backward()
            total += loss.item() / answer_tokens
        torch.nn.utils.clip_grad_norm_(weights, spec.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
    return model, losses


@pytest.mark.parametrize("settings", [{"micro_batches": 1}, {"micro_batches": 3}, {"packing": True}])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_same_weights_and_losses_as_a_plain_loop(method, settings, make_spec):
    options = {"rank": 4, "dropout": 0.0} if method == "lora" else {}
    spec = make_spec(method, options=options, learning_rate=1e-3, **settings)
    folder = train(spec, **SILENT)
    plan = set_up(spec).plan()
    model, losses = _reference(spec, [plan.examples_of(step) for step in range(plan.steps)])

    recorded = [loss for _, loss in Manifest.read(folder).training.losses]
    assert recorded == pytest.approx(losses, rel=1e-3)
    if method == "lora":
        ours = load_file(folder / "adapter_model.safetensors")
        expected = {name.replace(".default", ""): weight for name, weight in model.state_dict().items()}
    else:
        ours = load_file(folder / "model.safetensors")
        expected = model.state_dict()
    moved = max(float(weight.abs().max()) for name, weight in ours.items() if "lora_B" in name or method == "full")
    assert moved > 1e-3
    for name, weight in ours.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-2, atol=2e-4)


def test_an_adapter_is_a_plain_peft_adapter(make_spec, base):
    spec = make_spec(options={"rank": 4, "dora": True}, learning_rate=5e-2)
    folder = train(spec, **SILENT)
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        MANIFEST_NAME,
    }
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve())
    assert (config["r"], config["lora_alpha"], config["use_dora"]) == (4, 4, True)

    prompt = torch.tensor([[0, 70, 80, 90]])
    plain = AutoModelForCausalLM.from_pretrained(base)
    before = plain(prompt).logits
    adapted = PeftModel.from_pretrained(plain, folder)
    assert (adapted(prompt).logits - before).abs().max() > 1e-2
    assert open_checkpoint(str(folder)).kind == "adapter"
    assert (
        AutoTokenizer.from_pretrained(folder)("one")["input_ids"]
        == AutoTokenizer.from_pretrained(base)("one")["input_ids"]
    )


@pytest.mark.parametrize(("tied", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_full_weights_are_a_plain_model_like_the_base(tied, dtype, make_spec, tmp_path):
    base = tiny_llama(tmp_path / "own", tied=tied, dtype=dtype)
    spec = make_spec("full", learning_rate=1e-2).model_copy(update={"base": str(base)})
    folder = train(spec, **SILENT)
    ours, theirs = load_file(folder / "model.safetensors"), load_file(base / "model.safetensors")
    assert {name: (weight.shape, weight.dtype) for name, weight in ours.items()} == {
        name: (weight.shape, weight.dtype) for name, weight in theirs.items()
    }
    assert all((ours[name] != theirs[name]).any() for name in ours)
    assert json.loads((folder / "config.json").read_text()) == json.loads((base / "config.json").read_text())
    assert (folder / "generation_config.json").read_bytes() == (base / "generation_config.json").read_bytes()
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert open_checkpoint(str(folder)).kind == "full"


def test_the_manifest_tells_all(make_spec, base):
    spec = make_spec(max_source_tokens=48)
    lines: list[str] = []
    folder = train(spec, say=lines.append)
    manifest, setup = Manifest.read(folder), set_up(spec)
    assert manifest.base.location == str(base.resolve())
    assert manifest.base.weights_sha256 == weights_sha256(base)
    assert manifest.base.vocab_size == 384
    assert manifest.method.options["targets"] == ["q_proj", "v_proj"]
    assert manifest.method.options["alpha"] == 4
    assert manifest.method.trainable_parameters == 2 * 2 * (4 * 64 + 64 * 4)
    assert manifest.data.content_sha256 == setup.data.content_sha256
    assert {task: len(ids) for task, ids in manifest.data.instances.items()} == {
        task: 8 for task in {example.task for example in setup.data.examples}
    }
    assert manifest.text.adds_bos and manifest.text.adds_eos
    assert manifest.text.tokenizer_sha256 == tokenizer_sha256(base) == tokenizer_sha256(folder)
    training = manifest.training
    assert training.spec == {**spec.flat(), "targets": ["q_proj", "v_proj"]}
    assert (training.steps, training.epochs, training.seed) == (6, 1.5, 42)
    assert training.tokens == setup.plan().tokens(6)
    assert training.truncated_examples == setup.tokens.truncated_examples > 0
    assert [step for step, _ in training.losses] == [1, 2, 3, 4, 5, 6]
    assert training.seconds > 0 and training.peak_memory_bytes > 1e6
    assert {"torch", "transformers", "peft", "peft_eval"} <= set(manifest.versions)
    assert set(manifest.files) == {path.name for path in folder.iterdir()} - {MANIFEST_NAME}
    assert any("prompts at 48 tokens" in line for line in lines)
    assert f"lm_eval --model vllm --tasks mini_unseen --model_args peft={folder}" in lines[-1]


def test_prompts_are_fitted_to_the_context(make_spec):
    lines: list[str] = []
    folder = train(make_spec(max_source_tokens=1024, max_target_tokens=100, max_steps=1), say=lines.append)
    assert Manifest.read(folder).text.max_source_tokens == 412
    assert any(line.startswith("note: max_source_tokens is 412, not 1024") for line in lines)
    with pytest.raises(ConfigError, match="leaves no room"):
        train(make_spec(max_target_tokens=512, output="elsewhere"), **SILENT)


def test_a_loss_that_is_no_number_ends_the_run(make_spec, tmp_path):
    base = tiny_llama(tmp_path / "own")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] = float("inf")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    spec = make_spec("full").model_copy(update={"base": str(base)})
    with pytest.raises(PeftEvalError, match=r"the loss became nan at step 1 .*nothing was written"):
        train(spec, **SILENT)
    assert not (Path(spec.output) / MANIFEST_NAME).exists()


def test_a_finished_checkpoint_is_not_overwritten_unasked(make_spec):
    folder = train(make_spec("full", max_steps=1), **SILENT)
    before = (folder / "model.safetensors").read_bytes()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"a finished checkpoint is there \(.*--overwrite"):
        train(make_spec(max_steps=1), **SILENT)
    assert (folder / "model.safetensors").read_bytes() == before
    train(make_spec(max_steps=1), overwrite=True, **SILENT)
    assert open_checkpoint(str(folder)).kind == "adapter"
    assert not (folder / "model.safetensors").exists()
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_run_that_cannot_begin_leaves_nothing(make_spec):
    spec = make_spec(options={"rank": 65})
    with pytest.raises(ConfigError, match="rank 65"):
        train(spec, **SILENT)
    assert not Path(spec.output).exists()


def test_an_old_checkpoint_stays_until_the_new_one_is_complete(make_spec, monkeypatch):
    from peft_eval.training import checkpoints

    folder = train(make_spec(max_steps=1), **SILENT)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_adapter", full_disk)
    with pytest.raises(CheckpointError, match=r"no space left on the disk: .* MB free .*--resume"):
        train(make_spec(max_steps=2), overwrite=True, **SILENT)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_disk_too_small_is_refused_before_the_first_step(make_spec, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    spec = make_spec()
    with pytest.raises(CheckpointError, match=r"no space left on the disk: 0 MB free, 0 MB needed|MB needed"):
        train(spec, **SILENT)
    assert not Path(spec.output).exists()


def test_bases_that_cannot_be_used(make_spec, base, tmp_path):
    def fails_with(folder, match):
        with pytest.raises(PeftEvalError, match=match):
            train(make_spec().model_copy(update={"base": str(folder)}), **SILENT)

    fails_with(tmp_path / "nowhere", "no such folder")
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    weights = load_file(copy / "model.safetensors")
    norm = weights.pop("model.norm.weight")
    save_file({**weights, "model.other": norm}, copy / "model.safetensors", metadata={"format": "pt"})
    fails_with(copy, "1 missing keys: model.norm.weight")
    (copy / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:-100])
    fails_with(copy, "not a whole safetensors file")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    fails_with(copy, "pickled weights are refused")
    (copy / "adapter_config.json").write_text("{}")
    fails_with(copy, "this is an adapter")
    no_tokenizer = Path(shutil.copytree(base, tmp_path / "no_tokenizer"))
    (no_tokenizer / "tokenizer.json").unlink()
    fails_with(no_tokenizer, "no tokenizer")


def test_a_compiled_model_trains_the_same(make_spec, tmp_path):
    spec = make_spec("lora", tmp_path / "plain", {"rank": 4, "dropout": 0.0}, max_steps=2, micro_batches=1)
    plain = train(spec, **SILENT)
    compiled = train(spec.model_copy(update={"output": str(tmp_path / "compiled"), "torch_compile": True}), **SILENT)
    expected, found = (load_file(folder / "adapter_model.safetensors") for folder in (plain, compiled))
    assert set(found) == set(expected)
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="about a machine without an accelerator")
def test_fused_kernels_are_refused_without_a_gpu(make_spec):
    with pytest.raises(ConfigError, match="need a GPU"):
        train(make_spec(use_liger_kernel=True), **SILENT)


def test_a_setting_that_came_later_than_a_checkpoint_is_at_its_default(make_spec, tmp_path):
    spec = make_spec("lora", tmp_path / "old", max_steps=1)
    manifest = train(spec, **SILENT) / MANIFEST_NAME
    content = json.loads(manifest.read_text())
    del content["training"]["spec"]["torch_compile"]
    manifest.write_text(json.dumps(content))
    lines = []
    train(spec, resume=True, say=lines.append)
    assert lines[-1].endswith("is finished already")
    with pytest.raises(ConfigError, match=r"torch_compile \(.*then, .*now\)"):
        train(spec.model_copy(update={"torch_compile": True}), resume=True, **SILENT)
