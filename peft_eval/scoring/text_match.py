"""Normalised exact match, as Super-NaturalInstructions' evaluation script defines it.

Source: allenai/natural-instructions, eval/automatic/evaluation.py at 8540acd. Unlike SQuAD's, this normalisation
keeps articles.
"""

from __future__ import annotations

import string
from collections.abc import Iterable

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Returns the text in lower case, without ASCII punctuation, its white space collapsed."""
    return " ".join(text.lower().translate(_WITHOUT_PUNCTUATION).split())


def exact_match(prediction: str, references: Iterable[str]) -> float:
    """Returns 1.0 if the normalised prediction equals any normalised reference, else 0.0.

    An empty prediction matches a reference that is empty after normalisation (one of only punctuation).
    """
    normalized = normalize_answer(prediction)
    return float(any(normalized == normalize_answer(reference) for reference in references))
