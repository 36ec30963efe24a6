"""Log-likelihoods of one-token continuations: one request for each context instead of one for each continuation.

lm-eval scores a multiple-choice question by a request for every choice, each with the log-probabilities of the whole
prompt. Where the choices are one token each, as MMLU's letters, the distribution after the context holds them all. A
token's log-probability is the same number either way, up to the order in which an engine adds.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

_log = logging.getLogger(__name__)
# As lm-eval has it: the key for its cache, the context's ids, the continuation's ids.
Request = tuple[tuple[str, str], list[int], list[int]]
# vLLM needs room for one generated token, and lm-eval leaves room for the continuation's.
_ROOM = 2


class NextTokenScores:
    """Mixed into lm-eval's vLLM class; what does not fit the short cut goes lm-eval's way."""

    def _loglikelihood_tokens(
        self: Any, requests: list[Request], disable_tqdm: bool = False, **options: Any
    ) -> list[tuple[float, bool]]:
        from peft_eval.serving.next_token import MOST_TOKENS

        places: dict[tuple[int, ...], list[int]] = {}
        for place, (_, context, continuation) in enumerate(requests):
            if context and len(continuation) == 1:
                places.setdefault(tuple(context), []).append(place)
        # A context asked about once is no faster this way.
        places = {
            context: found
            for context, found in places.items()
            if len(found) > 1 and len({requests[place][2][0] for place in found}) <= MOST_TOKENS
        }
        answers: dict[int, tuple[float, bool]] = {}
        if places:
            self._score_next_tokens(requests, places, answers)
        rest = [place for place in range(len(requests)) if place not in answers]
        if rest:
            left = [requests[place] for place in rest]
            others = super()._loglikelihood_tokens(left, disable_tqdm, **options)  # type: ignore[misc]
            answers.update(zip(rest, others, strict=True))
        return [answers[place] for place in range(len(requests))]

    def _score_next_tokens(
        self: Any,
        requests: Sequence[Request],
        places: dict[tuple[int, ...], list[int]],
        answers: dict[int, tuple[float, bool]],
    ) -> None:
        from peft_eval.serving.next_token import next_token_request, next_token_scores

        longest = self.max_length - _ROOM
        cut = sum(len(context) > longest for context in places)
        if cut:
            _log.warning("%d contexts are longer than %d tokens: their beginnings are cut", cut, longest)
        wanted = [list(dict.fromkeys(requests[place][2][0] for place in found)) for found in places.values()]
        outputs = self._model_generate(
            requests=[list(context[-longest:]) for context in places],
            generate=True,
            sampling_params=[next_token_request(tokens) for tokens in wanted],
        )
        for found, tokens, output in zip(places.values(), wanted, outputs, strict=True):
            scores = dict(zip(tokens, next_token_scores(output, tokens), strict=True))
            for place in found:
                key, _, (token,) = requests[place]
                answers[place] = scores[token]
                if key is not None:  # of loglikelihood_rolling, which keeps its own account
                    self.cache_hook.add_partial("loglikelihood", key, answers[place])
