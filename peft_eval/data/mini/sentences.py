"""Category Data to Sentence: facts given in fields, told in one sentence."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import CITIES, COLORS, FOODS, JOBS, NAMES, THINGS, WEEKDAYS

CATEGORY = Category("Data to Sentence")


@CATEGORY.task(
    "Tell in a sentence what the person is by profession.",
    "Write the name and the job as a sentence of the form: somebody is a something.",
)
def job_sentence(rng: Random) -> tuple[str, str]:
    """Name and job."""
    name, job, city = rng.choice(NAMES), rng.choice(JOBS), rng.choice(CITIES)
    return f"name: {name} ; job: {job} ; city: {city}", f"{name} is a {job} in {city}."


@CATEGORY.task(
    "Write a sentence that says who bought how many things.",
    "Make a sentence of the buyer, the number and the thing: who bought what.",
)
def buying_sentence(rng: Random) -> tuple[str, str]:
    """Buyer, number and thing."""
    name, number, thing = rng.choice(NAMES), rng.randint(2, 40), rng.choice(THINGS)
    return f"thing: {thing} ; number: {number} ; buyer: {name}", f"{name} bought {number} of the {thing} type."


@CATEGORY.task(
    "Say in a sentence which color the thing has.",
    "Write the thing and its color as a sentence.",
)
def color_sentence(rng: Random) -> tuple[str, str]:
    """Thing, owner and color."""
    name, thing, color = rng.choice(NAMES), rng.choice(THINGS), rng.choice(COLORS)
    return f"{thing}, {color}, {name}", f"The {thing} of {name} is {color}."


@CATEGORY.task(
    "Write a sentence about the journey: who goes from where to where.",
    "Turn the name and the two cities into a sentence about a journey.",
)
def journey_sentence(rng: Random) -> tuple[str, str]:
    """Traveller and two cities."""
    name, (start, end) = rng.choice(NAMES), rng.sample(CITIES, 2)
    return f"{name} : {start} > {end}", f"{name} goes from {start} to {end}."


@CATEGORY.task(
    "Write an invitation with the food and the day that are given.",
    "Invite the person to the meal on the given day, in one sentence.",
)
def invitation(rng: Random) -> tuple[str, str]:
    """Guest, food and day."""
    name, food, day = rng.choice(NAMES), rng.choice(FOODS), rng.choice(WEEKDAYS)
    return f"guest={name}, food={food}, day={day}", f"Dear {name}, come and have {food} on {day}."
