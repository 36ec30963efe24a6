"""Prompts against strings written by hand from Tk-Instruct's collator (PROTOCOLS C2)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from peft_eval.data.encoding import (
    ENCODINGS,
    Demonstration,
    LengthReport,
    SourceLimit,
    encode_source,
    encoding_named,
)
from peft_eval.errors import ConfigError


@dataclass
class Written:
    definition: str = " Say whether the text is glad "
    positive: tuple[Demonstration, ...] = (
        Demonstration(" I won ", "glad", "Winning is good"),
        Demonstration("I lost!", "sad.", "Losing is not."),
        Demonstration("third", "never shown", "no"),
    )
    negative: tuple[Demonstration, ...] = field(
        default=(Demonstration("He ran", "glad\n", "Nothing says so"), Demonstration("ok?", "yes!", None))
    )


DEFINITION = "Definition: Say whether the text is glad.\n\n"
QUESTION = "Now complete the following example -\nInput: We sang.\nOutput: "
POSITIVE = (
    " Positive Example 1 -\nInput: I won.\n Output: glad.\n\n Positive Example 2 -\nInput: I lost!\n Output: sad.\n\n"
)
GOLDEN = {
    "def": DEFINITION + QUESTION,
    "pos2": POSITIVE + QUESTION,
    "def_pos2": DEFINITION + POSITIVE + QUESTION,
    "def_pos2_neg2": DEFINITION
    + POSITIVE
    + " Negative Example 1 -\nInput: He ran.\n Output: glad.\n\n"
    + " Negative Example 2 -\nInput: ok?\n Output: yes!\n\n"
    + QUESTION,
    "def_pos2_expl": DEFINITION
    + " Positive Example 1 -\nInput: I won.\n Output: glad.\n Explanation: Winning is good.\n\n"
    + " Positive Example 2 -\nInput: I lost!\n Output: sad.\n Explanation: Losing is not.\n\n"
    + QUESTION,
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_prompt_is_the_collators(name: str) -> None:
    assert encode_source(Written(), "\nWe sang ", ENCODINGS[name]).text == GOLDEN[name]


def test_full_stop_only_after_what_is_not_ascii_punctuation() -> None:
    ended = [encode_source(Written(), text, ENCODINGS["def"]).text.splitlines()[-2] for text in ("a)", "a。", "", "ü")]
    assert ended == ["Input: a)", "Input: a。.", "Input: .", "Input: ü."]


def words(text: str) -> int:
    return len(text.split())


def first_words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


def limit(tokens: int) -> SourceLimit:
    return SourceLimit(tokens, words, first_words)


def test_an_example_is_added_only_while_the_prompt_fits() -> None:
    whole = words(GOLDEN["def_pos2"])
    fits = encode_source(Written(), "We sang", ENCODINGS["def_pos2"], limit(whole))
    assert (fits.text, fits.examples_left_out, fits.cut) == (GOLDEN["def_pos2"], 0, False)
    one_less = encode_source(Written(), "We sang", ENCODINGS["def_pos2"], limit(whole - 1))
    first = " Positive Example 1 -\nInput: I won.\n Output: glad.\n\n"
    assert (one_less.text, one_less.examples_left_out, one_less.cut) == (DEFINITION + first + QUESTION, 1, False)


def test_negative_examples_are_tried_even_where_a_positive_one_does_not_fit() -> None:
    long = Written(positive=(Demonstration("word " * 50, "glad"),))
    encoded = encode_source(long, "We sang", ENCODINGS["def_pos2_neg2"], limit(words(GOLDEN["def"]) + 15))
    assert encoded.text == DEFINITION + " Negative Example 1 -\nInput: He ran.\n Output: glad.\n\n" + QUESTION
    assert encoded.examples_left_out == 2


def test_length_check_joins_examples_with_a_space_as_the_collator_does() -> None:
    seen: list[str] = []

    def count(text: str) -> int:
        seen.append(text)
        return 0

    encode_source(Written(), "We sang", ENCODINGS["def_pos2_neg2"], SourceLimit(10, count, first_words))
    first, second = (part + "\n\n" for part in POSITIVE.split("\n\n")[:2])
    negative = " Negative Example 1 -\nInput: He ran.\n Output: glad.\n\n"
    assert seen[:3] == [
        DEFINITION + first + QUESTION,
        DEFINITION + first + second + QUESTION,
        DEFINITION + first + " " + second + negative + QUESTION,
    ]


def test_too_long_a_source_is_cut_on_the_right_and_counted() -> None:
    report = LengthReport()
    for text in ("We sang", "word " * 100):
        report.add(encode_source(Written(), text, ENCODINGS["def_pos2"], limit(20)))
    assert report == LengthReport(sources=2, with_examples_left_out=2, cut=1)
    cut = encode_source(Written(), "word " * 100, ENCODINGS["def"], limit(20))
    assert cut.text == first_words(DEFINITION + QUESTION.replace("We sang", "word " * 100), 20)
    assert report.notes() == [
        "2 of 2 prompts had no room for all their examples",
        "1 of 2 prompts were longer than the limit and were cut on the right",
    ]
    assert LengthReport().notes() == []


def test_without_a_limit_nothing_is_cut() -> None:
    encoded = encode_source(Written(), "word " * 10_000, ENCODINGS["def_pos2_neg2"])
    assert words(encoded.text) > 10_000
    assert (encoded.examples_left_out, encoded.cut) == (0, False)


def test_unknown_encoding_lists_near_ones() -> None:
    with pytest.raises(ConfigError, match="def_pos2"):
        encoding_named("def_pos")
