"""The words that mini tasks are made of: short, common, one sense each, no overlap between the groups."""

from __future__ import annotations

from random import Random


def _words_of(line: str) -> tuple[str, ...]:
    return tuple(line.split())


ANIMALS = _words_of(
    "cat dog horse cow sheep goat pig hen duck goose fox wolf bear lion tiger mouse rabbit frog snake owl eagle crow "
    "whale shark camel donkey monkey zebra turtle spider"
)
FOODS = _words_of(
    "apple pear plum grape lemon melon peach cherry banana mango bread cheese butter rice soup cake pie honey milk "
    "tea coffee juice egg bean carrot onion potato tomato corn salad"
)
THINGS = _words_of(
    "table chair lamp box cup plate spoon knife clock book pen bag hat coat shoe key coin ring rope drum bell ball "
    "kite boat cart wheel brush mirror candle basket"
)
COLORS = _words_of("red blue green yellow black white brown pink gray purple orange silver")
NAMES = _words_of(
    "Anna Ben Clara David Emma Frank Grace Henry Irene Jack Kate Leo Mary Nick Olga Paul Rosa Sam Tina Victor Wendy "
    "Alice Bob Carl Diana Eric Fiona George Helen Ivan Julia Karl Laura Mark Nora Oscar Peter Ruth Simon Tom"
)
CITIES = _words_of(
    "Paris London Rome Berlin Madrid Vienna Oslo Athens Cairo Tokyo Delhi Lima Boston Dublin Lisbon Prague Warsaw "
    "Sydney Toronto Geneva"
)
JOBS = _words_of("baker doctor farmer teacher driver singer painter lawyer nurse pilot cook tailor sailor writer")
ADJECTIVES = _words_of("big small old new clean dirty heavy light warm cold quiet loud soft hard bright dark")
NUMBER_WORDS = _words_of("zero one two three four five six seven eight nine ten eleven twelve")
WEEKDAYS = _words_of("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words_of("January February March April May June July August September October November December")
NOUNS = ANIMALS + FOODS + THINGS
PLAIN_WORDS = NOUNS + COLORS + ADJECTIVES
# base form, third person, past tense
VERBS = (
    ("wash", "washes", "washed"),
    ("carry", "carries", "carried"),
    ("paint", "paints", "painted"),
    ("move", "moves", "moved"),
    ("clean", "cleans", "cleaned"),
    ("open", "opens", "opened"),
    ("count", "counts", "counted"),
    ("watch", "watches", "watched"),
    ("lift", "lifts", "lifted"),
    ("push", "pushes", "pushed"),
    ("pull", "pulls", "pulled"),
    ("visit", "visits", "visited"),
)


def words(rng: Random, low: int, high: int, pool: tuple[str, ...] = PLAIN_WORDS) -> list[str]:
    """Returns `low` to `high` different words of `pool`, in random order."""
    return rng.sample(pool, rng.randint(low, high))


def numbers(rng: Random, low: int, high: int, largest: int = 99) -> list[int]:
    """Returns `low` to `high` different numbers from 1 to `largest`, in random order."""
    return rng.sample(range(1, largest + 1), rng.randint(low, high))


def listed(items: object) -> str:
    """Writes items as a list in prose, e.g. `3, 5, 8`."""
    return ", ".join(str(item) for item in items)  # type: ignore[attr-defined]
