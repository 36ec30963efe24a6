"""Category Rule Classification: a label given by a rule that the definition states."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import ANIMALS, CITIES, COLORS, FOODS, JOBS, THINGS, WEEKDAYS, numbers, words

CATEGORY = Category("Rule Classification")
MOODS = ("quiet", "ready", "far away", "in the news", "late", "the first", "not there")


@CATEGORY.task(
    "Answer even if the number is even and odd if the number is odd.",
    "Is the number odd or even? Answer with the word odd or the word even.",
)
def odd_or_even(rng: Random) -> tuple[str, str]:
    """Labels a number by its parity."""
    number = rng.randint(1, 999)
    return str(number), "odd" if number % 2 else "even"


@CATEGORY.task(
    "Classify the number: small if it is less than 50, large otherwise.",
    "Numbers below 50 are small, all others are large. Answer small or large.",
)
def small_or_large(rng: Random) -> tuple[str, str]:
    """Labels a number by the threshold 50."""
    number = rng.randint(1, 250) if rng.random() < 0.5 else rng.randint(1, 49)
    return str(number), "small" if number < 50 else "large"


@CATEGORY.task(
    "Name the group of the word: animal, food or color.",
    "Is the word an animal, a food or a color? Answer with the name of its group.",
)
def animal_food_or_color(rng: Random) -> tuple[str, str]:
    """Labels the group of the word in a short phrase."""
    label, pool = rng.choice((("animal", ANIMALS), ("food", FOODS), ("color", COLORS)))
    return f"the word {rng.choice(pool)} in line {rng.randint(1, 40)}", label


@CATEGORY.task(
    "Say whether the sentence is about a person, a place or a thing.",
    "Classify what the sentence tells about: answer person, place or thing.",
)
def person_place_or_thing(rng: Random) -> tuple[str, str]:
    """Labels the subject of a sentence."""
    label, pool = rng.choice((("person", JOBS), ("place", CITIES), ("thing", THINGS)))
    subject = rng.choice(pool)
    return (
        f"{subject if label == 'place' else 'The ' + subject} was {rng.choice(MOODS)} on {rng.choice(WEEKDAYS)}.",
        label,
    )


@CATEGORY.task(
    "Answer yes if the word at the end is in the list before it, otherwise answer no.",
    "A list and a word are given. Is the word in the list? Answer yes or no.",
)
def is_in_list(rng: Random) -> tuple[str, str]:
    """Says whether a word is in a list."""
    items = words(rng, 4, 5)
    answer = rng.random() < 0.5
    asked = rng.choice(items[1:]) if answer else items[0]
    return f"list: {' '.join(items[1:])} ; word: {asked}", "yes" if answer else "no"


@CATEGORY.task(
    "Answer sorted if the numbers go up from left to right, and mixed if they do not.",
    "Are the numbers in increasing order? Answer with sorted or mixed.",
)
def sorted_or_mixed(rng: Random) -> tuple[str, str]:
    """Says whether three or four numbers increase."""
    items = numbers(rng, 3, 4)
    if rng.random() < 0.5:
        items.sort()
    return " ".join(map(str, items)), "sorted" if items == sorted(items) else "mixed"
