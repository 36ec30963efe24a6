"""ROUGE-L, equal to rouge-score's to the last bit and fast enough for 12,000 long answers.

Tokens, stems and the F-measure are rouge-score's own. Only the length of the longest common subsequence, which it
finds in a table of Python lists, is found here by bit-parallel recurrence (Hyyrö 2004, "Bit-parallel LCS-length
computation revisited"); it is a whole number either way. References recur, so their tokens are kept.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from peft_eval.errors import DataError

Tokenize = Callable[[str], Sequence[str]]


class RougeL:
    """ROUGE-L F-measure under one way of cutting text into tokens.

    Args:
        tokenize: turns a text into tokens.
    """

    def __init__(self, tokenize: Tokenize):
        from rouge_score import scoring

        self._tokens = functools.lru_cache(maxsize=1 << 15)(lambda text: tuple(tokenize(text)))
        self._fmeasure = scoring.fmeasure

    def score(self, reference: str, prediction: str) -> float:
        """Returns the F-measure, between 0 and 1; 0 if either has no tokens."""
        wanted, found = self._tokens(reference), self._tokens(prediction)
        if not wanted or not found:
            return 0.0
        common = common_subsequence_length(wanted, found)
        return self._fmeasure(common / len(found), common / len(wanted))

    def best(self, references: Iterable[str], prediction: str) -> float:
        """Returns the greatest F-measure over the references."""
        return max(self.score(reference, prediction) for reference in references)


@functools.cache
def stemmed_rouge() -> RougeL:
    """Returns the scorer of the English track: rouge-score's tokens with Porter stems."""
    from nltk.stem.porter import PorterStemmer
    from rouge_score import tokenize

    class KeptStems(PorterStemmer):
        """A stemmer that stems a word once."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = functools.lru_cache(maxsize=1 << 17)(super().stem)  # type: ignore[method-assign]

    stemmer = KeptStems()
    return RougeL(lambda text: tokenize.tokenize(text, stemmer))


@functools.cache
def gpt2_rouge(folder: Path) -> RougeL:
    """Returns the scorer of the cross-lingual track: GPT-2 tokens without their marks of space, no stems.

    Args:
        folder: a folder with GPT-2's `tokenizer.json`.

    Raises:
        DataError: the file is not there or cannot be read.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise missing_gpt2_tokenizer(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise DataError(f"not a tokenizer: {error}", place=str(path)) from error

    def tokenize(text: str) -> list[str]:
        return [token.lstrip("Ġ") for token in tokenizer.encode(text, add_special_tokens=False).tokens]

    return RougeL(tokenize)


def missing_gpt2_tokenizer(place: Path | None = None) -> DataError:
    """Builds the error for a cross-lingual run without GPT-2's tokenizer."""
    return DataError(
        "cross-lingual ROUGE-L is counted in GPT-2 tokens, and GPT-2's tokenizer.json is not at hand",
        place=str(place) if place else None,
        remedy="name a folder that has it: `--metadata gpt2_tokenizer=DIR`",
    )


def common_subsequence_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns the length of the longest common subsequence."""
    positions: dict[str, int] = {}
    for index, token in enumerate(first):
        positions[token] = positions.get(token, 0) | (1 << index)
    every = (1 << len(first)) - 1
    row = every  # a zero bit marks where the length grows
    for token in second:
        matches = row & positions.get(token, 0)
        row = ((row + matches) | (row - matches)) & every
    return len(first) - row.bit_count()
