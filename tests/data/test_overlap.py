"""Overlap of questions with training data: against a plain restatement, and on texts whose answer is known."""

import random

import pytest

from peft_eval.data.overlap import TrainingNgrams, own_words, training_ngrams, words_of


def restated(words, texts, size):
    """The share of words in n-grams of the texts, in plain Python."""
    if len(words) < size:
        return float(words in texts)
    seen = {tuple(text[i : i + size]) for text in texts for i in range(len(text) - size + 1)}
    inside = {i + k for i in range(len(words) - size + 1) if tuple(words[i : i + size]) in seen for k in range(size)}
    return len(inside) / len(words)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_coverage_is_that_of_plain_python(size):
    rng = random.Random(size)
    texts = [[rng.choice("abcde") for _ in range(rng.randrange(1, 60))] for _ in range(40)]
    found = TrainingNgrams(texts, size)
    for _ in range(300):
        words = [rng.choice("abcdef") for _ in range(rng.randrange(1, 40))]
        words += rng.choice(texts)[:20]
        assert found.coverage(words) == pytest.approx(restated(words, texts, size))
    assert found.coverage([]) == 0.0


def test_no_training_data_covers_nothing():
    assert TrainingNgrams([]).coverage(["a"] * 20) == 0.0


def test_what_all_texts_of_a_task_share_is_left_out():
    texts = ["Definition: add. Input: one two Output:", "Definition: add. Input: three Output:"]
    assert own_words(texts) == [["one", "two"], ["three"]]
    assert own_words(["alone"]) == [["alone"]]
    assert own_words(["same text", "same text"]) == [[], []]


def test_punctuation_case_and_an_instruction_in_common_do_not_count():
    definition = "Tell whether the two sentences that follow mean the same thing or not in plain English."
    item = "The old man went to the market on Monday to buy fish"
    seen = training_ngrams({"t": [f"{definition} {item}.", f"{definition} Something else was said there by her."]})
    assert seen.coverage(words_of(item.upper().replace(" ", ", "))) == 1.0
    assert seen.coverage(words_of(definition)) == 0.0
    half = item + " and then he walked all the way back home again alone"
    assert 0.4 < seen.coverage(words_of(half)) < 0.6
