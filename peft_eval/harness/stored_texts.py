"""Stored answers for lm-eval's class for transformers, which hands over one text after the other."""

from __future__ import annotations

import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_eval.harness.answers import question_key
from peft_eval.harness.prompts import TokenText
from peft_eval.harness.stored_answers import StoredAnswers, in_turn

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class StoredTexts(StoredAnswers):
    """Mixed into lm-eval's class for transformers: a question is a prompt's text, an answer the text that came."""

    _cuts: deque[bool]

    def generate_until(self: Any, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers as lm-eval's class does, what is known from the store."""
        if self._store is None:
            return super().generate_until(requests, disable_tqdm)  # type: ignore[misc,no-any-return]
        plain = [self._text_key(*request.args) for request in requests]
        keys = in_turn(zip(plain, (_is_drawn(request.args[1]) for request in requests), strict=True))
        answers, places = self._recall(keys)
        waiting: dict[bytes, deque[bytes]] = defaultdict(deque)
        for place in places:
            waiting[plain[place]].append(keys[place])

        def keep(request: tuple[str, dict[str, Any]], text: str) -> None:
            key = waiting[self._text_key(*request)].popleft()
            answers[key] = {"text": text, "cut": self._cuts.popleft()}
            self._store.keep({key: answers[key]})

        if places:
            with self._told_of_each(keep):
                super().generate_until([requests[place] for place in places], disable_tqdm)  # type: ignore[misc]
        for place in sorted(set(range(len(requests))) - set(places)):
            self._watch.remembered(requests[place], cut=answers[keys[place]]["cut"])
        return [answers[key]["text"] for key in keys]

    def _note_cut(self, cut: bool) -> None:
        """Takes note of whether the next answer that lm-eval tells of ended at the length limit."""
        if self._store is not None:
            self._cuts.append(cut)

    @contextlib.contextmanager
    def _told_of_each(self: Any, keep: Callable[[Any, str], None]) -> Iterator[None]:
        inner, self._cuts = self.cache_hook, deque()
        self.cache_hook = _Told(inner, keep)
        try:
            yield
        finally:
            self.cache_hook = inner

    def _text_key(self: Any, prompt: str, settings: Mapping[str, Any]) -> bytes:
        asked: str | Sequence[int] = prompt.token_ids if isinstance(prompt, TokenText) else str(prompt)
        lengths = [self.max_length, self.max_gen_toks]  # where the prompt is cut, and the answer ends
        return question_key("generate_until", self._speaker, asked, dict(settings), lengths)


class _Told:
    """In the place of lm-eval's own hook for caches, which is told of every answer when it is complete."""

    def __init__(self, inner: Any, keep: Callable[[Any, str], None]):
        self._inner = inner
        self._keep = keep

    def add_partial(self, kind: str, request: Any, answer: Any) -> None:
        self._keep(request, answer)
        self._inner.add_partial(kind, request, answer)


def _is_drawn(settings: Mapping[str, Any]) -> bool:
    return bool(settings.get("do_sample")) or float(settings.get("temperature") or 0) > 0
