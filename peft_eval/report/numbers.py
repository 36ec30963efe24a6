"""Numbers as people read them."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T")


def score_text(value: float, scale: float) -> str:
    """Returns a score with three or four digits; `scale` is the largest of its kind."""
    return f"{value:.{digits_of(scale)}f}"


def digits_of(scale: float) -> int:
    """Returns the decimals that scores of a scale are shown with: shares as 0.123, percentages as 12.3."""
    return 3 if abs(scale) <= 1 else 1


def count_text(value: float, unit: str = "") -> str:
    """Returns a count with a decimal prefix: 4.67M, 84.5 kB."""
    size = 0
    while abs(value) >= 999.5 and size < len(_PREFIXES) - 1:
        value /= 1000
        size += 1
    return f"{value:.3g}{' ' if unit else ''}{_PREFIXES[size]}{unit}"


def seconds_text(value: float) -> str:
    """Returns a time: 4.2 s, 3 min 20 s, 2 h 5 min."""
    if value < 60:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
