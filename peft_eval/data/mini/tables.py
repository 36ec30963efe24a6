"""Category Table Lookup (unseen in training): a cell, row or column of a small table."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import CITIES, COLORS, FOODS, JOBS, NAMES, THINGS, numbers, words

CATEGORY = Category("Table Lookup")


@CATEGORY.task(
    "A price list and a food are given. Write the price of the food.",
    "Look up what the food after the question mark costs.",
)
def price_of_food(rng: Random) -> tuple[str, str]:
    """Looks up a price."""
    foods, prices = words(rng, 3, 3, FOODS), numbers(rng, 3, 3)
    asked = rng.randrange(3)
    rows = " ; ".join(f"{food} = {price}" for food, price in zip(foods, prices, strict=True))
    return f"{rows} ; ? {foods[asked]}", str(prices[asked])


@CATEGORY.task(
    "The table says where each person lives. Write the city of the person asked for.",
    "In which city does the person after the question mark live? Look it up in the table.",
)
def city_of_person(rng: Random) -> tuple[str, str]:
    """Looks up a city."""
    names, cities = words(rng, 3, 3, NAMES), words(rng, 3, 3, CITIES)
    asked = rng.randrange(3)
    rows = "\n".join(f"{name} | {city}" for name, city in zip(names, cities, strict=True))
    return f"{rows}\n? {names[asked]}", cities[asked]


@CATEGORY.task(
    "The table lists persons and their jobs. Write the person who has the job asked for.",
    "Who has the job after the question mark? Answer with the name in the same row.",
)
def person_with_job(rng: Random) -> tuple[str, str]:
    """Looks up a person by the second column."""
    names, jobs = words(rng, 3, 3, NAMES), words(rng, 3, 3, JOBS)
    asked = rng.randrange(3)
    rows = "\n".join(f"{name} | {job}" for name, job in zip(names, jobs, strict=True))
    return f"{rows}\n? {jobs[asked]}", names[asked]


@CATEGORY.task(
    "Write the first column of the table, separated by commas.",
    "Each row has two cells. Write the left cells of all rows with commas between them.",
)
def first_column(rng: Random) -> tuple[str, str]:
    """Lists the first column."""
    things, colors = words(rng, 2, 3, THINGS), words(rng, 3, 3, COLORS)
    rows = "\n".join(f"{thing} | {color}" for thing, color in zip(things, colors, strict=False))
    return rows, ", ".join(things)


@CATEGORY.task(
    "Write the row of the table that begins with the thing asked for, as thing, color, number.",
    "Copy the cells of the row whose thing stands after the question mark, with commas between them.",
)
def whole_row(rng: Random) -> tuple[str, str]:
    """Copies a row."""
    things, colors, counts = words(rng, 3, 3, THINGS), words(rng, 3, 3, COLORS), numbers(rng, 3, 3)
    table = list(zip(things, colors, counts, strict=True))
    asked = rng.choice(table)
    rows = "\n".join(" | ".join(map(str, row)) for row in table)
    return f"{rows}\n? {asked[0]}", ", ".join(map(str, asked))
