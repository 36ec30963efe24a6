"""SQuAD's exact match and F1 (Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1 and its evaluate-v1.1.py).

The normalisation is English for every language, as in open-instruct's TyDiQA: articles and ASCII punctuation go.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Returns the text in lower case, without punctuation and articles, its white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def squad_scores(prediction: str, references: Iterable[str]) -> dict[str, float]:
    """Returns `f1` and `exact_match`, each the best over the references, 0 to 1."""
    references = list(references)
    return {
        "f1": max(_f1(prediction, reference) for reference in references),
        "exact_match": float(normalize(prediction) in {normalize(reference) for reference in references}),
    }


def _f1(prediction: str, reference: str) -> float:
    """Returns the harmonic mean of precision and recall over tokens; 0 where both are empty, as in the original."""
    predicted, expected = normalize(prediction).split(), normalize(reference).split()
    shared = (Counter(predicted) & Counter(expected)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(expected)
    return 2 * precision * recall / (precision + recall)
