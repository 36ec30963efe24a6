"""Colours and shapes of the methods: told apart on light and on dark ground, and, by shape, without colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# At least 3 : 1 against white and against the dark page (WCAG 2.2, 1.4.11).
COLOURS = (
    "#3b78b8", "#c76a12", "#2a8f63", "#8a63c4", "#9a7416", "#1787a0", "#b4549a", "#6c8420", "#84746a",
)  # fmt: skip
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
BASE, FULL = "#8b8f96", "#d1495b"


@dataclass(frozen=True)
class Theme:
    """What a plot's colours are called: variables of the page, or colours for an image.

    Attributes:
        ink: text. quiet: axes and captions. line: grid. ground: behind the plot.
    """

    ink: str
    quiet: str
    line: str
    ground: str


PAGE = Theme("var(--ink)", "var(--quiet)", "var(--line)", "transparent")
PAPER = Theme("#1c2126", "#555d66", "#e3e6ea", "#ffffff")


@dataclass(frozen=True)
class Look:
    """A method's colour and shape."""

    colour: str
    shape: str


def looks(labels: Sequence[str], kinds: Sequence[str]) -> dict[str, Look]:
    """Returns the look of each label; bases and full fine-tuning have the same in every report."""
    found: dict[str, Look] = {}
    number = 0
    for label, kind in zip(labels, kinds, strict=True):
        if kind in ("base", "full") and label in ("base", "full"):
            found[label] = Look(BASE if kind == "base" else FULL, "stroke" if kind == "base" else "diamond")
            continue
        colour, shape = COLOURS[number % len(COLOURS)], SHAPES[(number + number // len(COLOURS)) % len(SHAPES)]
        found[label] = Look(colour, shape)
        number += 1
    return found
