"""Classifier and yes-judge give what transformers gives one text at a time, whatever the batches."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import transformers

from peft_eval.errors import ConfigError, JudgeError
from peft_eval.judging import local_model
from peft_eval.judging.classifier import Classifier
from peft_eval.judging.yes_probability import YesJudge
from tests.judging.tiny_judges import tiny_roberta
from tests.tiny import tiny_llama

TEXTS = ["", "one", "sort the numbers", "the quick brown fox " * 3, "é∂ " * 60, "no", "explain why"] * 5


def test_the_classifier_equals_one_by_one(tmp_path: Path) -> None:
    folder = tiny_roberta(tmp_path)
    classifier = Classifier(str(folder), "test")
    assert classifier.most_tokens == 64
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = []
    for text in TEXTS:
        expected.append(int(model(torch.tensor([tokenizer(text).input_ids[:64]])).logits.argmax()))
    assert classifier.labels(TEXTS, batch_size=4) == expected
    assert len(set(expected)) == 2


@pytest.mark.parametrize("bos", [False, True])
def test_the_yes_probability_equals_one_by_one(tmp_path: Path, bos: bool) -> None:
    folder = tiny_llama(tmp_path, bos=bos)
    prompts = [f"Q: {text}\nA: {text}\nTrue:" for text in TEXTS[:7]]
    found = YesJudge(str(folder), "test").probabilities(prompts, batch_size=3)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for prompt, value in zip(prompts, found, strict=True):
        start = len(tokenizer(prompt).input_ids)
        ids = tokenizer(prompt + " yes").input_ids
        with torch.no_grad():
            logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = math.exp(sum(float(logs[place - 1, ids[place]]) for place in range(start, len(ids))))
        assert value == pytest.approx(expected, rel=1e-4)
    assert len({round(value, 12) for value in found}) > 1


def test_what_is_not_a_judge(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 labels"):
        Classifier(str(tiny_roberta(tmp_path / "three", labels=3)), "here")
    folder = tiny_roberta(tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    for refused in (lambda: local_model.check(str(folder), "here"), lambda: Classifier(str(folder), "here")):
        with pytest.raises(ConfigError, match=r"here: .*cannot be loaded: .*safetensors") as caught:
            refused()
        assert "\n" not in str(caught.value)
    for name in (str(tmp_path / "absent"), str(tmp_path)):
        with pytest.raises(ConfigError, match="here: "):
            local_model.check(name, "here")


def test_a_full_gpu_is_one_line() -> None:
    with pytest.raises(JudgeError, match="gpu_memory_utilization"), local_model.enough_memory("here"):
        raise torch.OutOfMemoryError
