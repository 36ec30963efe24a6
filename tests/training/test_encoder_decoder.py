"""T5 and its like, trained, saved and evaluated: the encoder reads the prompt, the decoder writes the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_eval.checkpoint.reading import open_checkpoint
from peft_eval.errors import ConfigError
from peft_eval.training.batches import encoder_decoder_batch
from peft_eval.training.run import train
from peft_eval.training.spec import TrainSpec
from peft_eval.training.tokens import TokenRow
from tests.tiny import tiny_t5


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


def spec_of(base: Path, output: Path, method: str, **settings: Any) -> TrainSpec:
    settings = {"max_steps": 30, "learning_rate": 1e-2, "max_source_tokens": 96, "max_target_tokens": 24} | settings
    return TrainSpec(
        base=str(base), method=method, data="mini", output=str(output), tasks=2, instances_per_task=8, batch_size=8,
        micro_batches=2, **settings,
    )  # fmt: skip


def test_a_batch_gives_the_loss_of_transformers(t5: Path) -> None:
    from transformers import T5ForConditionalGeneration

    from peft_eval.training.batches import answer_loss

    model = T5ForConditionalGeneration.from_pretrained(t5).eval()
    rows = [TokenRow.pair([5, 6, 7, 1], [8, 9, 1]), TokenRow.pair([10, 1], [11, 12, 13, 1])]
    batch = encoder_decoder_batch(rows, pad_token_id=2)
    labels = batch.pop("labels")
    read = model.prepare_decoder_input_ids_from_labels(labels=labels[:, 1:])
    assert read.tolist() == [[2, 8, 9, 1], [2, 11, 12, 13]]
    ours = answer_loss(model(**batch, decoder_input_ids=read).logits, labels, 7)
    theirs = [
        model(
            input_ids=torch.from_numpy(row.ids[None, : row.source_tokens]).long(),
            labels=torch.from_numpy(row.ids[None, row.source_tokens :]).long(),
        )
        for row in rows
    ]
    expected = (theirs[0].loss * 3 + theirs[1].loss * 4) / 7
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("method", ["lora", "full", "adapter"])
def test_trains_and_saves(t5: Path, tmp_path: Path, method: str) -> None:
    output = train(spec_of(t5, tmp_path / method, method), say=lambda _: None)
    checkpoint = open_checkpoint(str(output))
    assert checkpoint.manifest is not None and checkpoint.manifest.training is not None
    losses = [loss for _, loss in checkpoint.manifest.training.losses]
    assert losses[-1] < losses[0] - 0.3
    if method != "full":
        assert checkpoint.adapter_config["task_type"] == "SEQ_2_SEQ_LM"
        names = json.loads((output / "adapter_config.json").read_text())
        assert names["base_model_name_or_path"] == str(t5)


@pytest.mark.parametrize(
    ("settings", "said"), [({"packing": True}, "--packing"), ({"template": "tulu"}, "one prompt and writes one answer")]
)
def test_what_does_not_fit_is_refused(t5: Path, tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train(spec_of(t5, tmp_path / "x", "lora", **settings), say=lambda _: None)


def test_evaluates_what_was_trained(t5: Path, tmp_path: Path) -> None:
    """--model hf generates with encoder and decoder, and the merged weights answer the same."""
    from peft_eval.harness.extensions import extend_all

    extend_all()
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    output = train(spec_of(t5, tmp_path / "lora", "lora"), say=lambda _: None)
    lm = HFLM(peft=str(output), device="cpu", batch_size=2)
    request = Instance("generate_until", {}, ("Definition: say yes.", {"until": [], "max_gen_toks": 4}), 0)
    assert isinstance(lm.generate_until([request])[0], str)
    assert lm.max_length == 96
    record = lm.get_model_info()["peft_eval"]
    assert record["route"] == "hf" and record["probe"]["effect"]["largest"] > 0
