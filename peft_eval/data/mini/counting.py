"""Category Counting: how many there are of what the definition names."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import ANIMALS, FOODS, NOUNS, THINGS, numbers, words

CATEGORY = Category("Counting")


@CATEGORY.task("Count the words of the line.", "How many words does the input have? Answer with a number.")
def count_words(rng: Random) -> tuple[str, str]:
    """Counts two to seven words."""
    items = words(rng, 2, 7)
    return " ".join(items), str(len(items))


@CATEGORY.task(
    "Count how often the first word comes again later in the line.",
    "How many times is the first word repeated in the rest of the line? Answer with a number.",
)
def count_repeats(rng: Random) -> tuple[str, str]:
    """Counts the repetitions of the first word."""
    first, *others = words(rng, 4, 5, NOUNS)
    times = rng.randint(0, 3)
    rest = [first] * times + others
    rng.shuffle(rest)
    return f"{first} : {' '.join(rest)}", str(times)


@CATEGORY.task(
    "Count the animals in the list.",
    "How many of the words in the list are animals? Answer with a number.",
)
def count_animals(rng: Random) -> tuple[str, str]:
    """Counts the animals among other nouns."""
    animals = words(rng, 0, 4, ANIMALS)
    items = animals + words(rng, 1, 3, FOODS + THINGS)
    rng.shuffle(items)
    return ", ".join(items), str(len(animals))


@CATEGORY.task(
    "Count the numbers in the line. Words do not count.",
    "How many numbers stand in the line? Answer with a number.",
)
def count_numbers(rng: Random) -> tuple[str, str]:
    """Counts the numbers among words."""
    found = numbers(rng, 1, 5)
    items = [*map(str, found), *words(rng, 1, 3)]
    rng.shuffle(items)
    return " ".join(items), str(len(found))


@CATEGORY.task(
    "Write how many words stand before the sign |.",
    "Count the words to the left of the sign | and answer with that number.",
)
def count_before_bar(rng: Random) -> tuple[str, str]:
    """Counts the words left of a bar."""
    before, after = words(rng, 1, 5), words(rng, 1, 3)
    return f"{' '.join(before)} | {' '.join(after)}", str(len(before))
