"""Asking vLLM how likely a few tokens are to come next, all of them in one request.

The other way, `prompt_logprobs`, scores every position of the prompt once for each token asked about, and keeps the
request from using the prefix cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import MAX_LOGPROB_TOKEN_IDS

MOST_TOKENS = MAX_LOGPROB_TOKEN_IDS


def next_token_request(token_ids: Sequence[int]) -> SamplingParams:
    """Returns parameters that ask for the log-probabilities of some next tokens, at most `MOST_TOKENS`."""
    return SamplingParams(temperature=0, max_tokens=1, logprob_token_ids=list(token_ids), detokenize=False)


def asks_for_next_tokens(parameters: Any) -> bool:
    """Returns whether parameters, or the first of a list of them, come from `next_token_request`."""
    first = parameters[0] if isinstance(parameters, list) and parameters else parameters
    return bool(getattr(first, "logprob_token_ids", None))


def next_token_scores(output: Any, token_ids: Sequence[int]) -> list[tuple[float, bool]]:
    """Returns the natural log-probability of each token, and whether it is the likeliest of all."""
    answer = output.outputs[0]
    likeliest, scores = answer.token_ids[0], answer.logprobs[0]
    return [(float(scores[token].logprob), token == likeliest) for token in token_ids]
