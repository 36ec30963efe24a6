"""Category Sequence Completion (unseen in training): what comes next, or what is missing."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import MONTHS, NOUNS, PLAIN_WORDS, WEEKDAYS, words

CATEGORY = Category("Sequence Completion")


@CATEGORY.task(
    "The numbers grow by the same step each time. Write the next number.",
    "Continue the sequence of numbers by one number.",
)
def next_number(rng: Random) -> tuple[str, str]:
    """Continues an arithmetic sequence."""
    start, step, length = rng.randint(1, 40), rng.randint(1, 10), rng.randint(3, 4)
    return " ".join(str(start + step * i) for i in range(length)), str(start + step * length)


@CATEGORY.task(
    "The words repeat in a fixed pattern. Write the word that comes next.",
    "Continue the repeating pattern by one word.",
)
def next_in_pattern(rng: Random) -> tuple[str, str]:
    """Continues a pattern of two or three words that repeats."""
    items = words(rng, 2, 3)
    length = rng.randint(2 * len(items), 3 * len(items))
    return " ".join(items[i % len(items)] for i in range(length)), items[length % len(items)]


@CATEGORY.task(
    "Write the two days that come next in the week.",
    "Continue the days of the week by two days, separated by a space.",
)
def next_two_days(rng: Random) -> tuple[str, str]:
    """Continues the days of the week after a numbered line."""
    start = rng.randrange(7)
    return (
        f"line {rng.randint(1, 60)} : {WEEKDAYS[start]} {WEEKDAYS[(start + 1) % 7]}",
        f"{WEEKDAYS[(start + 2) % 7]} {WEEKDAYS[(start + 3) % 7]}",
    )


@CATEGORY.task(
    "One month is missing where the dots are. Write the missing month.",
    "Which month belongs in the place of the dots? Write its name.",
)
def missing_month(rng: Random) -> tuple[str, str]:
    """Fills the gap between two months of a numbered line."""
    month = rng.randrange(12)
    return f"line {rng.randint(1, 60)} : {MONTHS[month - 1]} ... {MONTHS[(month + 1) % 12]}", MONTHS[month]


@CATEGORY.task(
    "The same words are written twice, but the second time one is missing. Write the missing word.",
    "Find the word of the first part that the second part lacks, and write it.",
)
def missing_word(rng: Random) -> tuple[str, str]:
    """Names the word that a copied line lacks."""
    items = words(rng, 3, 4, NOUNS)
    gone = rng.choice(items)
    return f"{' '.join(items)} / {' '.join(item for item in items if item != gone)}", gone


@CATEGORY.task(
    "Continue the list backwards in order: write the whole list again from its end to its start.",
    "The list is a path. Write the way back, as a list.",
)
def way_back(rng: Random) -> tuple[str, str]:
    """Writes a path of words backwards."""
    items = words(rng, 3, 4, PLAIN_WORDS)
    return " > ".join(items), " > ".join(reversed(items))
