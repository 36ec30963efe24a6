"""Counting on the way from lm-eval's requests to an engine: no prompt is cut and no BOS doubled in silence."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peft_eval.errors import RouteError
from peft_eval.harness.record import PromptCounts

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)


class PromptWatch:
    """Looks at every prompt that a model is given.

    Args:
        max_length: the model's context in tokens.
        bos_id: id of the BOS token, None if there is none.
    """

    def __init__(self, max_length: int, bos_id: int | None):
        self._max_length = max_length
        self._bos_id = bos_id
        self._task_of: dict[tuple[int, ...], str] = {}
        self.counts = PromptCounts()
        self.first: dict[str, Any] | None = None

    def look(self, requests: Sequence[Instance], token_ids: Sequence[Sequence[int]], default_new_tokens: int) -> None:
        """Counts prompts that do not fit beside the answer's room, and keeps the first as an example.

        Raises:
            RouteError: a prompt begins with two BOS ids.
        """
        for request, ids in zip(requests, token_ids, strict=True):
            task = request.task_name or "unnamed"
            if self._bos_id is not None and list(ids[:2]) == [self._bos_id] * 2:
                raise RouteError(
                    "a prompt begins with two BOS ids", place=task, remedy="pass add_bos_token=false in --model_args"
                )
            options = request.args[1] if len(request.args) > 1 and isinstance(request.args[1], dict) else {}
            room = int(options.get("max_gen_toks", default_new_tokens))
            self._task_of[tuple(ids)] = task
            self.counts.prompts[task] += 1
            self.counts.too_long[task] += len(ids) + room > self._max_length
            if self.first is None:
                self.first = {"task": task, "text": request.args[0], "token_ids": list(ids)}
        if warning := self.counts.warning():
            logger.warning(warning)

    def cut_answer(self, token_ids: Sequence[int]) -> None:
        """Counts an answer that ended at the length limit, by its prompt's token ids."""
        self.counts.cut_answers[self._task_of.get(tuple(token_ids), "prompts that were cut")] += 1
