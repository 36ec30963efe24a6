"""How much of a text comes back word for word, counted in the tokens it is made of."""

from __future__ import annotations

from collections.abc import Sequence

_CUT_CHARACTER = "\ufffd"  # what decoding gives for a token that is part of a character


def verbatim_share(generated: str, beginnings: Sequence[str]) -> float:
    """Returns the share of tokens that came back before the first difference, between 0 and 1.

    Space at the start is not compared: backends differ in whether they decode it.

    Args:
        generated: what the model wrote.
        beginnings: the text's first token, its first two tokens, ..., all of it, as text.
    """
    found = generated.lstrip(" ")
    same = 0
    for beginning in beginnings:
        if not found or not found.startswith(beginning.rstrip(_CUT_CHARACTER).lstrip(" ")):
            break
        same += 1
    return same / len(beginnings)
