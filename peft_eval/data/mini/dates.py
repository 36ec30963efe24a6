"""Category Dates: days, months and written dates."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import MONTHS, NAMES, WEEKDAYS

CATEGORY = Category("Dates")


def _date(rng: Random) -> tuple[int, int, int]:
    return rng.randint(1, 28), rng.randint(1, 12), rng.randint(1980, 2029)


@CATEGORY.task(
    "Write the date with the month as a word: day, month, year.",
    "The date is written as day.month.year. Write it again with the name of the month.",
)
def date_in_words(rng: Random) -> tuple[str, str]:
    """Turns 4.7.1999 into 4 July 1999."""
    day, month, year = _date(rng)
    return f"{day}.{month}.{year}", f"{day} {MONTHS[month - 1]} {year}"


@CATEGORY.task(
    "Write the date in numbers, as day.month.year.",
    "Replace the name of the month by its number, and put dots between day, month and year.",
)
def date_in_numbers(rng: Random) -> tuple[str, str]:
    """Turns 4 July 1999 into 4.7.1999."""
    day, month, year = _date(rng)
    return f"{day} {MONTHS[month - 1]} {year}", f"{day}.{month}.{year}"


@CATEGORY.task("Write the year of the date.", "Answer with the year only.")
def year_of_date(rng: Random) -> tuple[str, str]:
    """Copies the year of a date."""
    day, month, year = _date(rng)
    return f"{day} {MONTHS[month - 1]} {year}", str(year)


@CATEGORY.task(
    "The sentence names a day of the week. Write the day that follows it.",
    "Which day comes right after the day in the sentence? Answer with its name.",
)
def day_after(rng: Random) -> tuple[str, str]:
    """Names the day after the one in a sentence."""
    day = rng.randrange(7)
    return f"{rng.choice(NAMES)} came on {WEEKDAYS[day]}.", WEEKDAYS[(day + 1) % 7]


@CATEGORY.task(
    "Write the month that comes before the month of the date.",
    "Which month is right before the one in the date? Answer with its name.",
)
def month_before(rng: Random) -> tuple[str, str]:
    """Names the month before that of a date."""
    day, month, _ = _date(rng)
    return f"{day} {MONTHS[month - 1]}", MONTHS[month - 2]


@CATEGORY.task(
    "The lesson takes place on two days. Write the two days, joined by the word and.",
    "Which two days does the sentence name? Write them with the word and between them.",
)
def two_days(rng: Random) -> tuple[str, str]:
    """Copies the two days of a sentence."""
    first, second = rng.sample(WEEKDAYS, 2)
    return f"{rng.choice(NAMES)} has lessons every {first} and also on {second}.", f"{first} and {second}"
