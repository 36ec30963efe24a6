"""Category Word Extraction: one word or span copied out of a line."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import ANIMALS, CITIES, COLORS, FOODS, JOBS, NAMES, THINGS, VERBS, words

CATEGORY = Category("Word Extraction")


@CATEGORY.task("Write the first word of the line.", "Answer with the word that the input begins with.")
def first_word(rng: Random) -> tuple[str, str]:
    """Copies the first of three to six words."""
    items = words(rng, 3, 6)
    return " ".join(items), items[0]


@CATEGORY.task("Write the last word of the line.", "Answer with the word that the input ends with.")
def last_word(rng: Random) -> tuple[str, str]:
    """Copies the last of three to six words."""
    items = words(rng, 3, 6)
    return " ".join(items), items[-1]


@CATEGORY.task(
    "Write the words that stand between the two brackets.",
    "Part of the line is in brackets. Copy that part, without the brackets.",
)
def words_in_brackets(rng: Random) -> tuple[str, str]:
    """Copies two or three words in brackets."""
    items = words(rng, 5, 7)
    length = rng.randint(2, 3)
    start = rng.randint(0, len(items) - length)
    inside = " ".join(items[start : start + length])
    return " ".join([*items[:start], f"({inside})", *items[start + length :]]), inside


@CATEGORY.task(
    "Find the animal in the list and write it.",
    "One of the words in the list is an animal. Which one? Answer with that word.",
)
def find_the_animal(rng: Random) -> tuple[str, str]:
    """Copies the one animal of a list."""
    animal = rng.choice(ANIMALS)
    items = [animal, *words(rng, 3, 4, THINGS + FOODS + COLORS)]
    rng.shuffle(items)
    return ", ".join(items), animal


@CATEGORY.task(
    "Read the sentence and write the name of the city in it.",
    "Which city does the sentence mention? Answer with the city only.",
)
def city_in_sentence(rng: Random) -> tuple[str, str]:
    """Copies the city of a sentence."""
    name, city, job, thing = rng.choice(NAMES), rng.choice(CITIES), rng.choice(JOBS), rng.choice(THINGS)
    sentence = rng.choice(
        (
            f"{name} the {job} bought a {thing} in {city} last week.",
            f"Last year {name} moved to {city} and became a {job}.",
            f"The {job} from {city} gave {name} a {thing}.",
        )
    )
    return sentence, city


@CATEGORY.task(
    "Write who did the action in the sentence, as a name.",
    "Read the sentence. Answer with the name of the person who acts.",
)
def who_did_it(rng: Random) -> tuple[str, str]:
    """Copies the subject of a sentence with two names."""
    actor, other = rng.sample(NAMES, 2)
    verb, thing = rng.choice(VERBS)[2], rng.choice(THINGS)
    sentence = rng.choice((f"{actor} {verb} the {thing} of {other}.", f"For {other}, {actor} {verb} the {thing}."))
    return sentence, actor
