"""Category Sorting: lists of numbers, words and dates put in an order that the definition states."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import NAMES, NOUNS, WEEKDAYS, listed, numbers, words

CATEGORY = Category("Sorting")


@CATEGORY.task(
    "Sort the numbers from the smallest to the largest. Keep the commas.",
    "You are given a list of numbers. Write the same numbers in increasing order, separated by commas.",
)
def sort_numbers_up(rng: Random) -> tuple[str, str]:
    """Sorts three to five numbers, smallest first."""
    items = numbers(rng, 3, 5)
    return listed(items), listed(sorted(items))


@CATEGORY.task(
    "Sort the numbers from the largest to the smallest. Keep the commas.",
    "You are given a list of numbers. Write the same numbers in decreasing order, separated by commas.",
)
def sort_numbers_down(rng: Random) -> tuple[str, str]:
    """Sorts three to five numbers, largest first."""
    items = numbers(rng, 3, 5)
    return listed(items), listed(sorted(items, reverse=True))


@CATEGORY.task(
    "Put the words in alphabetical order, separated by spaces.",
    "Sort the given words from A to Z and write them with spaces between them.",
)
def sort_words(rng: Random) -> tuple[str, str]:
    """Sorts three to five words alphabetically."""
    items = words(rng, 3, 5, NOUNS)
    return " ".join(items), " ".join(sorted(items))


@CATEGORY.task(
    "Sort the names from Z to A, that is in reverse alphabetical order.",
    "Write the names in reverse alphabetical order, with commas between them.",
)
def sort_names_backwards(rng: Random) -> tuple[str, str]:
    """Sorts three or four names from Z to A."""
    items = words(rng, 3, 4, NAMES)
    return listed(items), listed(sorted(items, reverse=True))


@CATEGORY.task(
    "Put the days in the order of the week, which begins on Monday.",
    "Sort the given days of the week. Monday comes first, Sunday last.",
)
def sort_weekdays(rng: Random) -> tuple[str, str]:
    """Sorts three to five days of the week."""
    items = words(rng, 3, 5, WEEKDAYS)
    return listed(items), listed(sorted(items, key=WEEKDAYS.index))
