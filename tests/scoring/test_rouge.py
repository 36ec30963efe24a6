"""ROUGE-L against rouge-score itself and against ROUGE-1.5.5's published output."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from peft_eval.data.superni.reader import read_task
from peft_eval.errors import DataError
from peft_eval.scoring.rouge import RougeL, common_subsequence_length, gpt2_rouge, stemmed_rouge

REFERENCE = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
TEXT = st.text(alphabet="ab cñ.D1\n", max_size=60) | st.lists(
    st.sampled_from(["running", "runs", "ran", "cats", "cat", "the", "The,", "!", "an'd", "2nd", "--", "ähnlich"]),
    max_size=30,
).map(" ".join)


@settings(deadline=None)
@given(TEXT, TEXT)
def test_equal_to_rouge_score_to_the_last_bit(reference: str, prediction: str) -> None:
    assert stemmed_rouge().score(reference, prediction) == REFERENCE.score(reference, prediction)["rougeL"].fmeasure


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=80), st.lists(st.sampled_from("abcd"), max_size=80))
def test_common_subsequence_length(first: list[str], second: list[str]) -> None:
    table = rouge_scorer._lcs_table(first, second)
    assert common_subsequence_length(first, second) == table[-1][-1]


def test_equal_on_real_references(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "superni" / "tasks").glob("*.json"))[::5]:
        task, _ = read_task(path, instances=8)
        assert task is not None
        for instance in task.instances:
            for output in instance.outputs[:3]:
                expected = REFERENCE.score(output, instance.input)["rougeL"].fmeasure
                assert stemmed_rouge().score(output, instance.input) == expected
                compared += 1
    assert compared > 300


def test_the_best_reference_counts() -> None:
    assert stemmed_rouge().best(["a dog", "two cats"], "two cats") == 1.0
    assert stemmed_rouge().best(["a dog", "two dogs"], "two cats") == 0.5


def test_published_output_of_rouge_155(shared_data: Path) -> None:
    folder = shared_data / "rouge_testdata"
    expected = json.loads((folder / "EXPECTED.json").read_text())

    def lines(name: str) -> list[str]:
        return (folder / name).read_text(encoding="utf-8").splitlines()

    from rouge_score import tokenize

    plain = RougeL(lambda text: tokenize.tokenize(text, None))
    for number in (0, 1):
        target, prediction = lines("target.txt")[number], lines("prediction.txt")[number]
        published = expected["published"][f"line{number}"]["rougeL"]["fmeasure"]
        assert plain.score(target, prediction) == pytest.approx(published, abs=5e-6)
    pairs = list(zip(lines("target_large.txt"), lines("prediction_large.txt"), strict=True))
    assert len(pairs) == 1000
    computed = expected["computed_here_rouge_score_0.1.2"]
    for scorer, name in ((plain, "no_stemmer"), (stemmed_rouge(), "stemmer")):
        mean = fmean(scorer.score(target, prediction) for target, prediction in pairs)
        assert mean == pytest.approx(computed[name]["rougeL"]["fmeasure"], abs=1e-9)
    published = expected["published"]["large_mean_stemmer"]["rougeL"]["fmeasure"]
    assert fmean(stemmed_rouge().score(*pair) for pair in pairs) == pytest.approx(published, abs=0.002)


def test_gpt2_tokens_for_text_without_latin_letters(shared_data: Path) -> None:
    scorer = gpt2_rouge(shared_data / "tokenizers" / "gpt2")
    from transformers import GPT2TokenizerFast

    tokenizer = GPT2TokenizerFast.from_pretrained(shared_data / "tokenizers" / "gpt2")

    class Official:
        def tokenize(self, text: str) -> list[str]:
            return [token.lstrip("Ġ") for token in tokenizer.tokenize(text)]

    official = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Official())
    pairs = [
        ("猫が好きです", "犬が好きです"),
        ("میں گھر جا رہا ہوں", "میں گھر  جا رہی ہوں"),
        ("The cats", " cats The cats"),
        ("", "x"),
    ]
    for reference, prediction in pairs:
        expected = official.score(reference, prediction)["rougeL"].fmeasure
        assert scorer.score(reference, prediction) == expected
    assert scorer.score(*pairs[0]) > 0.5 > stemmed_rouge().score(*pairs[0]) == 0.0


def test_a_folder_without_the_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--metadata gpt2_tokenizer=DIR"):
        gpt2_rouge(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="not a tokenizer"):
        gpt2_rouge(tmp_path)
