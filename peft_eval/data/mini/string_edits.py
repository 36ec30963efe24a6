"""Category String Edit: one small change to a line of words."""

from __future__ import annotations

from random import Random

from peft_eval.data.mini.task import Category
from peft_eval.data.mini.words import COLORS, NOUNS, words

CATEGORY = Category("String Edit")


@CATEGORY.task(
    "Write the words of the input in reverse order.",
    "Reverse the order of the words: the last word comes first and the first word comes last.",
)
def reverse_words(rng: Random) -> tuple[str, str]:
    """Reverses the order of three to six words."""
    items = words(rng, 3, 6)
    return " ".join(items), " ".join(reversed(items))


@CATEGORY.task(
    "Remove the first word and write the rest unchanged.",
    "Write the input without its first word.",
)
def drop_first_word(rng: Random) -> tuple[str, str]:
    """Drops the first of three to six words."""
    items = words(rng, 3, 6)
    return " ".join(items), " ".join(items[1:])


@CATEGORY.task(
    "Remove the last word and write the rest unchanged.",
    "Copy the words of the input, but leave out the last one.",
)
def drop_last_word(rng: Random) -> tuple[str, str]:
    """Drops the last of three to six words."""
    items = words(rng, 3, 6)
    return " ".join(items), " ".join(items[:-1])


@CATEGORY.task(
    "Swap the first word and the last word. All other words stay in place.",
    "Write the input with its first and last word exchanged.",
)
def swap_first_and_last(rng: Random) -> tuple[str, str]:
    """Exchanges the first and the last of three to six words."""
    items = words(rng, 3, 6)
    return " ".join(items), " ".join([items[-1], *items[1:-1], items[0]])


@CATEGORY.task(
    "The input is a line of words, then a change such as cat > dog. Write the line with that word replaced.",
    "Replace a word: every time the word left of the sign > stands in the line, write the word right of it instead.",
)
def replace_word(rng: Random) -> tuple[str, str]:
    """Replaces one word of a line by another."""
    *items, new = words(rng, 4, 6)
    old = rng.choice(items)
    return f"{' '.join(items)} ; {old} > {new}", " ".join(new if item == old else item for item in items)


@CATEGORY.task(
    "Write every word of the input twice, one copy right after the other.",
    "Double each word of the line.",
)
def double_each_word(rng: Random) -> tuple[str, str]:
    """Repeats each of two to four words."""
    items = words(rng, 2, 4)
    return " ".join(items), " ".join(f"{item} {item}" for item in items)


@CATEGORY.task(
    "Remove the color words from the line and write what is left.",
    "Write the input without the words that name a color.",
)
def remove_colors(rng: Random) -> tuple[str, str]:
    """Drops one or two colors from a line of nouns."""
    kept = words(rng, 2, 4, NOUNS)
    items = list(kept)
    for color in words(rng, 1, 2, COLORS):
        items.insert(rng.randint(0, len(items)), color)
    return " ".join(items), " ".join(kept)
