"""How much of a question the training data holds: the share of its words that lie in n-grams seen in training.

The measure is that of Tülu 3's decontamination (arXiv 2411.15124): a question overlaps if more than half of its words
are covered by 8-grams of one set in common. What all texts of a task share at their start and end, as its
instruction, is no part of a question. A question of fewer than n words overlaps if it is a whole training instance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

NGRAM = 8
THRESHOLD = 0.5
_WORD = re.compile(r"\w+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses no bit
_UNSEEN = 0


class TrainingNgrams:
    """The n-grams of training texts.

    Args:
        texts: words of each training instance, see `own_words`.
        size: words of an n-gram.
    """

    def __init__(self, texts: Iterable[Sequence[str]], size: int = NGRAM):
        self.size = size
        self._ids: dict[str, int] = {}
        short: set[tuple[str, ...]] = set()
        hashes = [np.empty(0, np.uint64)]
        for words in texts:
            if len(words) < size:
                short.add(tuple(words))
            else:
                ids = [self._ids.setdefault(word, len(self._ids) + 1) for word in words]
                hashes.append(self._hashes(np.array(ids, np.uint64)))
        self._short = short
        self._seen = np.unique(np.concatenate(hashes))

    def coverage(self, words: Sequence[str]) -> float:
        """Returns the share of words, 0 to 1, that lie in an n-gram of the training texts."""
        if not words:
            return 0.0
        if len(words) < self.size:
            return float(tuple(words) in self._short)
        ids = np.array([self._ids.get(word, _UNSEEN) for word in words], np.uint64)
        hashes = self._hashes(ids)
        places = np.minimum(np.searchsorted(self._seen, hashes), max(0, len(self._seen) - 1))
        found = self._seen[places] == hashes if len(self._seen) else np.zeros(len(hashes), bool)
        covered = np.zeros(len(words), bool)
        for offset in range(self.size):
            covered[offset : offset + len(found)] |= found
        return float(covered.mean())

    def _hashes(self, ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Returns a hash of each run of `size` ids, (len(ids) - size + 1,)."""
        hashes = np.zeros(len(ids) - self.size + 1, np.uint64)
        with np.errstate(over="ignore"):
            for offset in range(self.size):
                hashes = (hashes ^ ids[offset : offset + len(hashes)]) * _FACTOR
                hashes ^= hashes >> np.uint64(29)
        return hashes


def words_of(text: str) -> list[str]:
    """Returns a text's words in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def own_words(texts: Sequence[str]) -> list[list[str]]:
    """Returns the words of each text of a task, without those that all of them begin or end with."""
    words = [words_of(text) for text in texts]
    if len(words) < 2:
        return words
    start = _common(words)
    end = _common([one[start:][::-1] for one in words])
    return [one[start : len(one) - end] for one in words]


def _common(words: Sequence[Sequence[str]]) -> int:
    """Returns how many words all lists begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False)))


def training_ngrams(texts: Mapping[str, Sequence[str]], size: int = NGRAM) -> TrainingNgrams:
    """Returns the n-grams of training data.

    Args:
        texts: the prompts of each task.
        size: words of an n-gram.
    """
    return TrainingNgrams((words for one in texts.values() for words in own_words(one)), size)
