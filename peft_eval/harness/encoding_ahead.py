"""Encodes the texts of log-likelihood requests in blocks, before lm-eval asks for them one by one.

lm-eval encodes each context once for every continuation, each text in a call of its own. A block goes to the tokenizer
as a whole, which uses all cores and does each context once; lm-eval's loop then finds the ids there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

_BLOCK = 512


class EncodingAhead:
    """Mixed into lm-eval's vLLM class, whose `tok_encode` takes a list of texts too."""

    _ahead: _Ahead | None = None

    def loglikelihood(self: Any, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Scores as lm-eval's class does."""
        self._ahead = _Ahead(requests, super().tok_encode)  # type: ignore[misc]
        try:
            return super().loglikelihood(requests, disable_tqdm)  # type: ignore[misc]
        finally:
            self._ahead = None

    def tok_encode(self: Any, string: Any, *args: Any, **options: Any) -> Any:
        """Encodes as lm-eval's class does."""
        if self._ahead is not None and type(string) is str and string and not args and not options:
            return self._ahead.ids(string)
        return super().tok_encode(string, *args, **options)  # type: ignore[misc]


class _Ahead:
    """The ids of a block of requests, of the next one as soon as a text is asked for that is not in it.

    Args:
        requests: in the order in which lm-eval will go through them.
        encode: gives the ids of a text, or of each in a list.
    """

    def __init__(self, requests: list[Instance], encode: Callable[[Any], Any]):
        self._requests: Iterator[Instance] = iter(requests)
        self._encode = encode
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Returns a text's ids. The list is shared by all who ask for the text."""
        if text not in self._known:
            block = list(islice(self._requests, _BLOCK))
            texts = list(dict.fromkeys(one for request in block for one in _texts(*request.args)))
            self._known = dict(zip(texts, self._encode(texts), strict=True)) if texts else {}
        return self._known[text] if text in self._known else self._encode(text)  # type: ignore[no-any-return]


def _texts(context: str, continuation: str) -> tuple[str, ...]:
    """Returns what lm-eval encodes for a pair: both together, and the context without the white space at its end."""
    return (context + continuation, context.rstrip()) if context.strip() and type(context) is str else ()
