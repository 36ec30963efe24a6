"""Category List Editing: a list with items added, dropped, joined or moved."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import ANIMALS, FOODS, NOUNS, THINGS, listed, numbers, words

CATEGORY = Category("List Editing")


@CATEGORY.task(
    "Two lists are separated by a bar. Write them as one list, the left one first.",
    "Join the list before the sign | and the list after it into one list.",
)
def join_two_lists(rng: Random) -> tuple[str, str]:
    """Joins two lists."""
    items = words(rng, 3, 6, NOUNS)
    cut = rng.randint(1, len(items) - 1)
    return f"{listed(items[:cut])} | {listed(items[cut:])}", listed(items)


@CATEGORY.task(
    "Add the item after the plus sign to the end of the list.",
    "Write the list with the new item, given after the sign +, as its last item.",
)
def append_item(rng: Random) -> tuple[str, str]:
    """Adds an item at the end."""
    *items, new = words(rng, 3, 5, NOUNS)
    return f"{listed(items)} + {new}", listed([*items, new])


@CATEGORY.task(
    "Take the item after the minus sign out of the list and write the rest.",
    "Remove one item, named after the sign -, from the list.",
)
def remove_item(rng: Random) -> tuple[str, str]:
    """Removes one item."""
    items = words(rng, 3, 5, NOUNS)
    gone = rng.choice(items)
    return f"{listed(items)} - {gone}", listed(item for item in items if item != gone)


@CATEGORY.task(
    "Some items stand in the list twice. Write each item once, in the order of the list.",
    "Remove the repeated items, so that each item of the list is written only once.",
)
def remove_repeats(rng: Random) -> tuple[str, str]:
    """Drops repeated items."""
    items = words(rng, 2, 4, NOUNS)
    again = [*items, *rng.sample(items, rng.randint(1, 2))]
    rng.shuffle(again)
    return listed(again), listed(dict.fromkeys(again))


@CATEGORY.task(
    "Write only the numbers that are greater than 50, in the order of the list.",
    "Keep the numbers above 50 and leave out all others.",
)
def keep_above_fifty(rng: Random) -> tuple[str, str]:
    """Keeps the numbers above 50."""
    items = [*rng.sample(range(1, 50), rng.randint(1, 3)), *rng.sample(range(51, 100), rng.randint(1, 3))]
    rng.shuffle(items)
    return listed(items), listed(item for item in items if item > 50)


@CATEGORY.task(
    "Write the foods of the list and leave out all other words.",
    "Keep only the words that name a food or a drink, in their order.",
)
def keep_foods(rng: Random) -> tuple[str, str]:
    """Keeps the foods among animals and things."""
    items = words(rng, 1, 3, FOODS) + words(rng, 1, 3, ANIMALS + THINGS)
    rng.shuffle(items)
    return listed(items), listed(item for item in items if item in FOODS)


@CATEGORY.task(
    "Move the first item to the end of the list.",
    "Write the list with its first item moved to the last place.",
)
def move_first_to_end(rng: Random) -> tuple[str, str]:
    """Rotates a list by one."""
    items = [str(item) for item in numbers(rng, 3, 5)]
    return listed(items), listed([*items[1:], items[0]])
