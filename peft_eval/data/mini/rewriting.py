"""Category Sentence Rewriting (unseen in training): a sentence said another way."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import ADJECTIVES, ANIMALS, CITIES, FOODS, JOBS, NAMES, THINGS, VERBS, WEEKDAYS

CATEGORY = Category("Sentence Rewriting")


@CATEGORY.task(
    "Rewrite the sentence in the passive voice.",
    "Say the same with the thing as the subject: something was done by somebody.",
)
def active_to_passive(rng: Random) -> tuple[str, str]:
    """Turns "The cook washed the cup." into "The cup was washed by the cook."."""
    job, thing, verb = rng.choice(JOBS), rng.choice(THINGS), rng.choice(VERBS)[2]
    return f"The {job} {verb} the {thing}.", f"The {thing} was {verb} by the {job}."


@CATEGORY.task(
    "Rewrite the sentence so that it says the opposite, with the words does not.",
    "Make the sentence negative.",
)
def make_negative(rng: Random) -> tuple[str, str]:
    """Negates a liking."""
    name, food = rng.choice(NAMES), rng.choice(FOODS)
    verb, day = rng.choice(("like", "want", "buy", "eat")), rng.choice(WEEKDAYS)
    return f"{name} {verb}s {food} on {day}.", f"{name} does not {verb} {food} on {day}."


@CATEGORY.task(
    "Turn the question into a statement.",
    "Rewrite the question as a sentence that says it is so.",
)
def question_to_statement(rng: Random) -> tuple[str, str]:
    """Turns "Is the cat old?" into "The cat is old."."""
    subject = rng.choice(ANIMALS + THINGS)
    adjective, city = rng.choice(ADJECTIVES), rng.choice(CITIES)
    return f"Is the {adjective} {subject} in {city}?", f"The {adjective} {subject} is in {city}."


@CATEGORY.task(
    "Rewrite the order as a polite request that begins with Please.",
    "Make the order polite: begin with the name and the word please.",
)
def polite_request(rng: Random) -> tuple[str, str]:
    """Puts name and please before an order."""
    name, thing, verb = rng.choice(NAMES), rng.choice(THINGS), rng.choice(VERBS)[0]
    return f"{name}, {verb} the {thing}!", f"Please {verb} the {thing}, {name}."


@CATEGORY.task(
    "Exchange the two names in the sentence.",
    "Rewrite the sentence with the two persons in each other's place.",
)
def exchange_names(rng: Random) -> tuple[str, str]:
    """Swaps giver and receiver."""
    first, second = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    sentence = rng.choice(("{0} gave {1} a {2}.", "{0} took the {2} of {1}.", "{0} sold {1} the {2}."))
    return sentence.format(first, second, thing), sentence.format(second, first, thing)
