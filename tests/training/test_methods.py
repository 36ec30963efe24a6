"""Whole runs of methods that ask more of training than a gradient: a start from data, penalties, schedules, prompts."""

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.errors import ConfigError
from peft_eval.training.batches import IGNORED, answer_loss, padded_batch, right_padded_batch
from peft_eval.training.run import train
from peft_eval.training.tokens import TokenRow
from peft_eval.training.trainer import AnswerTrainer

OPTIONS = {
    "adalora": {"init_r": 6, "target_r": 2, "tinit": 1, "tfinal": 1},
    "pissa": {"rank": 4},
    "loraplus": {"rank": 4},
    "lorafa": {"rank": 4},
    "p_tuning": {"num_virtual_tokens": 3, "encoder_hidden_size": 16},
    "eva": {"rank": 4, "start_examples": 8},
}


def _weights(folder):
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("name", ["adalora", "pissa", "loraplus", "lorafa", "p_tuning"])
def test_an_interrupted_run_ends_with_the_same_weights(make_spec, tmp_path, monkeypatch, name):
    settings = {"method": name, "options": OPTIONS[name], "save_every_steps": 2}
    whole = train(make_spec(output=tmp_path / "whole", **settings), say=lambda line: None)

    spec = make_spec(output=tmp_path / "cut", **settings)
    step = AnswerTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(AnswerTrainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(spec, say=lambda line: None)
    monkeypatch.undo()
    lines = []
    cut = train(spec, resume=True, say=lines.append)
    assert "from step 4" in "".join(lines)
    expected, found = _weights(whole), _weights(cut)
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=1e-6)


def test_adalora_gives_ranks_up(make_spec):
    folder = train(make_spec(method="adalora", options=OPTIONS["adalora"]), say=lambda line: None)
    config = open_checkpoint(str(folder)).adapter_config
    left = [sum(kept) for kept in config["rank_pattern"].values()]
    assert config["total_step"] == 6 and sum(left) == 2 * len(left)  # target_r on average
    assert {len(tensor) for name, tensor in _weights(folder).items() if "lora_A" in name} == set(left)


def test_lora_plus_has_two_learning_rates(make_spec, monkeypatch):
    rates = []
    original = AnswerTrainer.create_optimizer

    def recorded(self, *args, **kwargs):
        optimizer = original(self, *args, **kwargs)
        rates.extend(group["lr"] for group in optimizer.param_groups if group["params"])
        return optimizer

    monkeypatch.setattr(AnswerTrainer, "create_optimizer", recorded)
    options = {**OPTIONS["loraplus"], "lr_ratio": 8}
    train(make_spec(method="loraplus", options=options, learning_rate=1e-3, max_steps=1), say=lambda line: None)
    assert rates == pytest.approx([1e-3, 8e-3])


@pytest.mark.parametrize("name", ["pissa", "eva"])
def test_a_checkpoint_is_plain_lora(make_spec, base, name):
    folder = train(make_spec(method=name, options=OPTIONS[name]), say=lambda line: None)
    config = open_checkpoint(str(folder)).adapter_config
    assert config["r"] == (8 if name == "pissa" else 4)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))
    ids = torch.tensor([[5, 9, 70]])
    with torch.no_grad():
        adapted = model(ids).logits
        with model.disable_adapter():
            assert torch.equal(model(ids).logits, AutoModelForCausalLM.from_pretrained(base)(ids).logits)
    assert (adapted - AutoModelForCausalLM.from_pretrained(base)(ids).logits).abs().max() > 1e-6


def test_virtual_tokens_cannot_be_packed(make_spec):
    spec = make_spec(method="prompt_tuning", options={"num_virtual_tokens": 3}, packing=True)
    with pytest.raises(ConfigError, match="--packing: method prompt_tuning puts virtual tokens before each example"):
        train(spec, say=lambda line: None)


def test_padding_on_the_right_gives_the_same_loss(base):
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    rows = [TokenRow.pair([5, 9, 70], [81, 33]), TokenRow.pair([12], [44, 91, 17, 6]), TokenRow.pair([8] * 6, [3])]
    losses = []
    for stacked in (padded_batch, right_padded_batch):
        batch = stacked(rows, pad_token_id=2)
        labels = batch.pop("labels")
        assert (labels[:, 0] == IGNORED).all() and (labels != IGNORED).sum() == 7
        with torch.no_grad():
            losses.append(answer_loss(model(**batch).logits, labels, 7))
    torch.testing.assert_close(losses[0], losses[1])
