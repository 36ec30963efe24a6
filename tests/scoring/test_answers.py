"""Answer extraction and matching, against the rules said again in another way."""

from __future__ import annotations

import random
import string

import pytest

from peft_eval.scoring.answers import EXTRACTORS, answer_is, last_number, loose_match, so_the_answer_is
from peft_eval.scoring.squad import normalize, squad_scores


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("So the answer is 18.", "18"),
        ("It is 1,450,000 dollars", "1450000"),
        ("-5", "5"),
        ("-5.5 apples", "-5.5"),
        ("+.5", "+.5"),
        ("3.", "3"),
        ("1,2,3", "3"),
        ("3 then 4/5", "5"),
        ("none", "none"),
        ("", ""),
        ("١٢", "١٢"),
    ],
)
def test_the_last_number(text: str, number: str):
    assert last_number(text) == number


def numbers_by_hand(text: str) -> list[str]:
    """Reads numbers from left to right: sign, digits, point, digits; else digits alone."""
    found, at = [], 0
    while at < len(text):
        end = at + (text[at] in "+-")
        while end < len(text) and text[end].isdigit():
            end += 1
        fraction = end + 1
        while fraction < len(text) and text[end : end + 1] == "." and text[fraction].isdigit():
            fraction += 1
        if fraction > end + 1:
            found.append(text[at:fraction])
            at = fraction
        elif text[at].isdigit():
            found.append(text[at:end])
            at = end
        else:
            at += 1
    return found


def test_numbers_equal_a_reading_by_hand():
    draw = random.Random(0)
    for _ in range(3000):
        text = "".join(draw.choices("0123.-+ a", k=draw.randint(0, 12)))
        found = numbers_by_hand(text)
        assert last_number(text) == (found[-1] if found else text), text


@pytest.mark.parametrize(
    ("text", "v2", "v1"),
    [
        ("Think. So the answer is (A).", "(A)", "(A)"),
        ("the answer is 3.5. So the answer is 4.", "3", "4"),
        ("|he answer is x.", "x", "|he answer is x."),
        ("So the answer is\nyes.", "So the answer is\nyes.", "So the answer is\nyes."),
        (" yes \n\nQ: So", "yes \n\nQ: So", "yes"),
        ("So the answer is yes", "So the answer is yes", "So the answer is yes"),
        ("The answer is  a b .", "a b", "The answer is  a b ."),
        ("", "", ""),
    ],
)
def test_what_follows_the_answer_is(text: str, v2: str, v1: str):
    assert (answer_is(text), so_the_answer_is(text)) == (v2, v1)
    assert (EXTRACTORS["v2"](text), EXTRACTORS["v1"](text)) == (v2, v1)


def test_loose_match_equals_the_rule_said_by_characters():
    draw = random.Random(1)
    for _ in range(2000):
        left, right = ("".join(draw.choices("aA .(", k=draw.randint(0, 3))) for _ in range(2))
        bare = [[sign.lower() for sign in text if sign not in string.punctuation] for text in (left, right)]
        assert loose_match(left, right) == float(bare[0] == bare[1])
    assert loose_match("a", "a ") == 0.0


def f1_by_hand(prediction: str, reference: str) -> float:
    """Pairs equal words one by one."""
    words, left = normalize(prediction).split(), normalize(reference).split()
    total = len(words) + len(left)
    shared = 0
    for word in words:
        if word in left:
            left.remove(word)
            shared += 1
    return 2 * shared / total if shared else 0.0


def test_squad_scores_equal_a_count_by_hand():
    draw = random.Random(2)
    words = ["the", "A", "cat,", "dog", "an", "кот", "1990"]
    for _ in range(1000):
        prediction, *references = (" ".join(draw.choices(words, k=draw.randint(0, 4))) for _ in range(3))
        scores = squad_scores(prediction, references)
        assert scores["f1"] == pytest.approx(max(f1_by_hand(prediction, one) for one in references))
        assert scores["exact_match"] == float(any(normalize(prediction) == normalize(one) for one in references))


@pytest.mark.parametrize(
    ("text", "normal"), [(" The  Cat, a DOG!", "cat dog"), ("theory", "theory"), ("«кот»", "«кот»"), ("a.b", "ab")]
)
def test_squad_normalisation(text: str, normal: str):
    assert normalize(text) == normal
