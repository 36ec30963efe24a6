"""The official scores of single answers."""

from __future__ import annotations

import pytest

from peft_eval.scoring.rouge import stemmed_rouge
from peft_eval.scoring.superni import instance_scores
from peft_eval.scoring.text_match import exact_match, normalize_answer


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("  The  Cat,\n sat! ", "the cat sat"),  # articles stay
        ("a-b_c", "abc"),
        ("¿Qué?", "¿qué"),  # ASCII punctuation alone
        ("...", ""),
        ("Ünï\tcode", "ünï code"),
    ],
)
def test_normalisation(text: str, normalized: str) -> None:
    assert normalize_answer(text) == normalized


def test_exact_match_with_any_reference() -> None:
    assert exact_match("Yes.", ["no", "yes"]) == 1.0
    assert exact_match("the yes", ["no", "yes"]) == 0.0
    assert exact_match("", ["!"]) == 1.0


def test_scores_are_percentages_of_the_best_reference() -> None:
    rouge = stemmed_rouge()
    assert instance_scores(" A cat.\n", ["dog", "a cat"], rouge) == {"rougeL": 100.0, "exact_match": 100.0}
    assert instance_scores("", ["dog"], rouge) == {"rougeL": 0.0, "exact_match": 0.0}
    assert instance_scores("two cats", ["two dogs", "x"], rouge) == {"rougeL": 50.0, "exact_match": 0.0}
    assert instance_scores("猫", ["猫"], rouge) == {"rougeL": 0.0, "exact_match": 100.0}
