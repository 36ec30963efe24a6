"""Category Comparison (unseen in training): which of two or three is more, longer, earlier."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import NAMES, NOUNS, THINGS, WEEKDAYS, numbers, words

CATEGORY = Category("Comparison")


@CATEGORY.task("Write the larger of the two numbers.", "Which of the two numbers is greater? Write that number.")
def larger_number(rng: Random) -> tuple[str, str]:
    """Picks the larger of two numbers."""
    first, second = numbers(rng, 2, 2)
    return f"{first} or {second}", str(max(first, second))


@CATEGORY.task("Write the smallest number of the list.", "Find the least number of the list and write it.")
def smallest_number(rng: Random) -> tuple[str, str]:
    """Picks the smallest of three or four numbers."""
    items = numbers(rng, 3, 4)
    return ", ".join(map(str, items)), str(min(items))


@CATEGORY.task(
    "Which of the two words comes first in the dictionary? Write that word.",
    "Compare the two words by the alphabet and write the earlier one.",
)
def earlier_word(rng: Random) -> tuple[str, str]:
    """Picks the alphabetically first of two words."""
    items = words(rng, 2, 2, NOUNS)
    return " or ".join(items), min(items)


@CATEGORY.task(
    "Two things have a price. Write the name of the cheaper thing.",
    "Which thing costs less? Answer with the thing.",
)
def cheaper_thing(rng: Random) -> tuple[str, str]:
    """Picks the thing with the lower price."""
    first, second = words(rng, 2, 2, THINGS)
    price, other = numbers(rng, 2, 2)
    return f"{first} {price} dollars, {second} {other} dollars", first if price < other else second


@CATEGORY.task(
    "Each person has an age. Write the name of the older person.",
    "Who is older? Answer with the name.",
)
def older_person(rng: Random) -> tuple[str, str]:
    """Picks the person with the higher age."""
    first, second = rng.sample(NAMES, 2)
    age, other = numbers(rng, 2, 2)
    return f"{first} is {age}, {second} is {other}", first if age > other else second


@CATEGORY.task(
    "Compare the two lines. Answer same if both have the same words in the same order, else different.",
    "Are the line before the bar and the line after it equal? Answer same or different.",
)
def same_or_different(rng: Random) -> tuple[str, str]:
    """Says whether two lines of words are equal."""
    items = words(rng, 2, 3, NOUNS + WEEKDAYS)
    other = list(items)
    if rng.random() < 0.5:
        other[rng.randrange(len(other))] = rng.choice([noun for noun in NOUNS if noun not in items])
    return f"{' '.join(items)} | {' '.join(other)}", "same" if items == other else "different"
