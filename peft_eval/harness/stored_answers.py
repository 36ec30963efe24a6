"""Between lm-eval's model classes and a model: known answers come from a store, new ones are kept as they come.

A question is what the model is given: the prompt and the generation settings. Who answers is part of its key: weights,
adapter, route, tokenizer, template, and the engine's settings and version. So no two checkpoints share an answer, while
runs that differ only in their tasks share all they have in common. Drawn answers are told apart by their turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from peft_eval.harness.answers import AnswerStore, question_key
from peft_eval.serving.answering import finished_answers, settings_of
from peft_eval.serving.next_token import asks_for_next_tokens

_SCORED_AT_ONCE = 512
Request = tuple[Any, list[int], list[int]]


class StoredAnswers:
    """What is common to both backends, scores among it. Without a store it does nothing.

    Attributes:
        asked: how many questions went to the model.
        remembered: how many did not.
    """

    _store: AnswerStore | None = None
    _speaker: Any = None
    asked = 0
    remembered = 0

    def remember_in(self, store: AnswerStore | None, speaker: Any) -> None:
        """Takes and keeps answers from here on.

        Args:
            store: where; None for nowhere.
            speaker: who answers, as JSON: everything besides the question that an answer depends on.
        """
        self._store, self._speaker = store, speaker
        self.asked = self.remembered = 0

    def answers_record(self) -> dict[str, int]:
        """Returns what the results say of it."""
        return {"asked": self.asked, "remembered": self.remembered}

    def _loglikelihood_tokens(
        self: Any, requests: list[Request], disable_tqdm: bool = False, **options: Any
    ) -> list[tuple[float, bool]]:
        if self._store is None:
            return super()._loglikelihood_tokens(requests, disable_tqdm, **options)  # type: ignore[misc,no-any-return]
        keys = [self._score_key(context, continuation) for _, context, continuation in requests]
        answers = self._store.known(keys)
        missing = [place for place, key in enumerate(keys) if key not in answers]
        self._count(keys, len(missing))
        for block in _blocks(missing, requests):
            part = [requests[place] for place in block]
            scores = super()._loglikelihood_tokens(part, disable_tqdm, **options)  # type: ignore[misc]
            new = {keys[place]: list(score) for place, score in zip(block, scores, strict=True)}
            self._store.keep(new)
            answers |= new
        return [(float(answers[key][0]), bool(answers[key][1])) for key in keys]

    def _score_key(self: Any, context: list[int], continuation: list[int]) -> bytes:
        # Where the context is cut depends on the model's length, which is no part of who answers.
        cut = self.max_length if len(context) + len(continuation) > self.max_length - 2 else None
        return question_key("loglikelihood", self._speaker, context, continuation, cut)

    def _recall(self: Any, keys: Sequence[bytes]) -> tuple[dict[bytes, Any], list[int]]:
        """Returns the answers that are known, and where each of the other keys stands first, ascending."""
        answers = self._store.known(keys)
        missing = {key: place for place, key in reversed(list(enumerate(keys))) if key not in answers}
        self._count(keys, len(missing))
        return answers, sorted(missing.values())

    def _count(self, keys: Sequence[bytes], asked: int) -> None:
        self.asked += asked
        self.remembered += len(keys) - asked


class StoredOutputs(StoredAnswers):
    """Mixed into lm-eval's vLLM class: a question is its token ids, an answer what the engine puts out."""

    def _model_generate(self: Any, requests: Any, generate: bool = False, sampling_params: Any = None) -> Any:
        plain = not generate or sampling_params is None or asks_for_next_tokens(sampling_params)
        if self._store is None or plain:
            return super()._model_generate(requests, generate, sampling_params)  # type: ignore[misc]
        settings = sampling_params if isinstance(sampling_params, list) else [sampling_params] * len(requests)
        keys = self._keys(requests, settings)
        answers, places = self._recall(keys)
        if places:

            def keep(finished: dict[int, dict[str, Any]]) -> None:
                new = {keys[places[index]]: answer for index, answer in finished.items()}
                self._store.keep(new)
                answers.update(new)

            with finished_answers(self.model, keep):
                super()._model_generate(  # type: ignore[misc]
                    [requests[place] for place in places], generate, [settings[place] for place in places]
                )
        return [_output(ids, answers[key]) for ids, key in zip(requests, keys, strict=True)]

    def _keys(self, requests: Sequence[Sequence[int]], settings: Sequence[Any]) -> list[bytes]:
        described = [settings_of(one) for one in settings]
        keys = (
            question_key("generate", self._speaker, wanted, list(ids))
            for ids, (wanted, _) in zip(requests, described, strict=True)
        )
        return in_turn(zip(keys, (drawn for _, drawn in described), strict=True))


def in_turn(keys: Iterable[tuple[bytes, bool]]) -> list[bytes]:
    """Returns keys of questions in which drawn answers to the same question are told apart by their turn.

    Args:
        keys: each with whether its answer is drawn.
    """
    turns: Counter[bytes] = Counter()
    found = []
    for key, drawn in keys:
        turns[key] += drawn
        found.append(question_key(key.hex(), turns[key]) if drawn else key)
    return found


def _blocks(places: Sequence[int], requests: Sequence[Request]) -> Iterator[list[int]]:
    """Yields blocks of requests; those with one context stay together, since the engine computes it once."""
    block: list[int] = []
    for place in places:
        if len(block) >= _SCORED_AT_ONCE and requests[place][1] != requests[block[-1]][1]:
            yield block
            block = []
        block.append(place)
    if block:
        yield block


def _output(ids: Sequence[int], answer: dict[str, Any]) -> Any:
    """Returns an answer in the form in which vLLM gives it, as far as lm-eval's class reads it."""
    completion = SimpleNamespace(text=answer["text"], finish_reason=answer["finish_reason"])
    return SimpleNamespace(prompt_token_ids=list(ids), prompt_logprobs=None, outputs=[completion])
