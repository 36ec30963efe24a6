"""Taking the answer out of what a model wrote, as open-instruct's evaluation does (60ceefa6, eval/*/run_eval.py)."""

from __future__ import annotations

import re
import string
from collections.abc import Callable

_THOUSANDS = re.compile(r"(\d),(\d)")
_NUMBER = re.compile(r"[-+]?\d*\.\d+|\d+")
# `[t|T]` takes a bar as well; so does the original.
_ANSWER_IS = re.compile(r"[t|T]he answer is (.*?)\.")
_SO_THE_ANSWER_IS = re.compile(r"So the answer is (.*?)\.")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def without_thousands_commas(text: str) -> str:
    """Returns `1,450` as `1450`.

    As in the original a digit belongs to one match alone, so of `1,2,3` the second comma stays.
    """
    return _THOUSANDS.sub(r"\1\2", text)


def last_number(text: str) -> str:
    """Returns the last number of an answer, the whole answer if there is none (GSM8K).

    A whole number loses its sign, as in the original.
    """
    text = without_thousands_commas(text)
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else text


def answer_is(text: str) -> str:
    """Returns what stands between the first "the answer is" and the next full stop, else the whole text (BBH, v2)."""
    found = _ANSWER_IS.search(text)
    return (found[1] if found else text).strip()


def so_the_answer_is(text: str) -> str:
    """The same as of June 2023 (609312b): "So the answer is", else the text up to the first blank line (BBH, v1)."""
    found = _SO_THE_ANSWER_IS.search(text)
    return found[1].strip() if found else text.strip().split("\n\n")[0].strip()


def loose_match(prediction: str, reference: str) -> float:
    """Returns 1.0 if both are equal but for case and ASCII punctuation, else 0.0.

    Equals `evaluate`'s `exact_match` with `ignore_case` and `ignore_punctuation`; white space counts.
    """
    return float(_bare(prediction) == _bare(reference))


def _bare(text: str) -> str:
    return text.lower().translate(_WITHOUT_PUNCTUATION)


EXTRACTORS: dict[str, Callable[[str], str]] = {"v2": answer_is, "v1": so_the_answer_is}
