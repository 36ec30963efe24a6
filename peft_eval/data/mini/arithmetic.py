"""Category Arithmetic: sums, differences and products of small numbers."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import NAMES, NOUNS, listed, numbers

CATEGORY = Category("Arithmetic")


@CATEGORY.task(
    "You are given two numbers joined by a plus sign. Write their sum.",
    "Add the two numbers in the input and answer with the result only.",
    "The input is an addition. Your answer is the sum of both numbers.",
)
def add_two_numbers(rng: Random) -> tuple[str, str]:
    """Adds two numbers below 100."""
    first, second = rng.randint(1, 99), rng.randint(1, 99)
    return f"{first} + {second}", str(first + second)


@CATEGORY.task(
    "Subtract the second number from the first and write the difference.",
    "You are given a subtraction whose result is not negative. Write the result.",
)
def subtract_two_numbers(rng: Random) -> tuple[str, str]:
    """Subtracts a number from a larger or equal one."""
    second, first = sorted((rng.randint(1, 99), rng.randint(1, 99)))
    return f"{first} - {second}", str(first - second)


@CATEGORY.task(
    "Multiply the two numbers of the input and write the product.",
    "The input is a multiplication. Answer with the product as a number.",
)
def multiply_two_numbers(rng: Random) -> tuple[str, str]:
    """Multiplies a number up to 12 by a number up to 25."""
    first, second = rng.randint(2, 12), rng.randint(2, 25)
    return f"{first} * {second}", str(first * second)


@CATEGORY.task(
    "You get a list of three small numbers. Write the sum of all of them.",
    "Add up the three numbers in the list and give the total.",
)
def sum_of_list(rng: Random) -> tuple[str, str]:
    """Adds three different numbers up to 20."""
    items = numbers(rng, 3, 3, largest=20)
    return listed(items), str(sum(items))


@CATEGORY.task(
    "Read the short story and write how many things the person has at the end.",
    "A person has some things and gets more of them. Answer with the number of things the person has now.",
)
def story_of_adding(rng: Random) -> tuple[str, str]:
    """Adds two numbers told as a story."""
    name, thing = rng.choice(NAMES), rng.choice(NOUNS)
    had, got = rng.randint(1, 20), rng.randint(1, 20)
    return f"{name} has {had} of the {thing} cards. {name} gets {got} more.", str(had + got)
