"""On the way from lm-eval's requests to a model: no prompt is cut and no BOS doubled in silence.

`WatchedPrompts` is mixed into lm-eval's model classes. Besides watching it lets a task hand over token ids of its own,
as text that carries them, where a tokenizer would put them together differently.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from peft_eval.checkpoint.writing import CHAT_TEMPLATE
from peft_eval.errors import RouteError
from peft_eval.harness.record import PromptCounts

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from peft_eval.serving.route import Route

logger = logging.getLogger(__name__)


class TokenText(str):
    """Text with the token ids that a model is to be given for it, whatever its tokenizer makes of the text."""

    token_ids: tuple[int, ...]

    def __new__(cls, text: str, token_ids: Sequence[int] = ()) -> TokenText:
        """Returns the text; `token_ids` are what it stands for."""
        made = super().__new__(cls, text)
        made.token_ids = tuple(token_ids)
        return made


class PromptWatch:
    """Looks at every prompt that a model is given.

    Args:
        max_length: the model's context in tokens.
        bos_id: id of the BOS token, None if there is none.
    """

    def __init__(self, max_length: int, bos_id: int | None):
        self._max_length = max_length
        self._bos_id = bos_id
        self._asking: dict[int, deque[str]] = defaultdict(deque)
        self.counts = PromptCounts()

    def look(self, requests: Sequence[Instance], token_ids: Sequence[Sequence[int]], default_new_tokens: int) -> None:
        """Counts prompts that do not fit beside their answer's room, and keeps the first of each task.

        Raises:
            RouteError: a prompt begins with two BOS ids.
        """
        for request, ids in zip(requests, token_ids, strict=True):
            task = request.task_name or "unnamed"
            self._check_bos(ids, task)
            options = request.args[1] if len(request.args) > 1 and isinstance(request.args[1], dict) else {}
            room = self._max_length - int(options.get("max_gen_toks", default_new_tokens))
            self._asking[hash(tuple(ids[-room:] if 0 < room < len(ids) else ids))].append(task)
            self.counts.add(task, too_long=len(ids) > room, answered=True)
            self.counts.first.setdefault(task, {"text": request.args[0], "token_ids": list(ids)})

    def look_at_pairs(self, requests: Sequence[Instance], pairs: Sequence[Any], limit: int) -> None:
        """Counts questions of which a pair of context and continuation is longer than `limit` tokens together.

        Raises:
            RouteError: a context begins with two BOS ids.
        """
        is_long: dict[tuple[str, int | None], bool] = defaultdict(bool)
        for request, (_, context, continuation) in zip(requests, pairs, strict=True):
            task = request.task_name or "unnamed"
            self._check_bos([*context[:2], *continuation[:2]], task)
            is_long[task, request.doc_id] |= len(context) + len(continuation) > limit
            if task not in self.counts.first:
                self.counts.first[task] = {
                    "text": request.args[0],
                    "token_ids": list(context),
                    "continuation": request.args[1],
                    "continuation_ids": list(continuation),
                }
        for (task, _), too_long in is_long.items():
            self.counts.add(task, too_long=too_long, answered=False)

    def answered(self, token_ids: Sequence[int], *, cut: bool) -> None:
        """Takes note of an answer, by its prompt's token ids as the model was given them."""
        asking = self._asking.get(hash(tuple(token_ids)))
        task = asking.popleft() if asking else "unnamed"
        self.counts.cut_answers[task] += cut

    def remembered(self, request: Instance, *, cut: bool) -> None:
        """Takes note of an answer that was known before, of a request that was looked at."""
        self.counts.cut_answers[request.task_name or "unnamed"] += cut

    def _check_bos(self, ids: Sequence[int], task: str) -> None:
        if self._bos_id is not None and list(ids[:2]) == [self._bos_id] * 2:
            raise RouteError(
                "a prompt begins with two BOS ids", place=task, remedy="pass add_bos_token=false in --model_args"
            )


class WatchedPrompts:
    """What both of our model classes do with prompts, before lm-eval's class of the backend does its part."""

    _watch: PromptWatch
    # How many tokens more than the context lm-eval's class takes for a context with its continuation.
    _pair_slack = 0

    def _begin_watching(self: Any, route: Route | None) -> None:
        """Makes the checkpoint's own chat template the model's, and counts from here on."""
        template = route.checkpoint.folder / CHAT_TEMPLATE if route else None
        if template is not None and template.is_file():
            self.tokenizer.chat_template = template.read_text(encoding="utf-8")
            self.hf_chat_template = self.tokenizer.chat_template  # what lm-eval's vLLM class renders with
        self._watch = PromptWatch(self.max_length, self.tokenizer.bos_token_id)
        self._pairs_of: Sequence[Instance] | None = None

    def tok_encode(self, string: Any, *args: Any, **options: Any) -> Any:
        """Encodes as lm-eval's class does; text that carries its ids keeps them."""
        encode = super().tok_encode  # type: ignore[misc]
        if isinstance(string, str):
            return list(string.token_ids) if isinstance(string, TokenText) else encode(string, *args, **options)
        others = [text for text in string if not isinstance(text, TokenText)]
        encoded: Iterator[list[int]] = iter(encode(others, *args, **options) if others else [])
        return [list(text.token_ids) if isinstance(text, TokenText) else next(encoded) for text in string]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if isinstance(context, TokenText) and isinstance(continuation, TokenText):
            return list(context.token_ids), list(continuation.token_ids)
        return super()._encode_pair(context, continuation)  # type: ignore[misc]

    def _encode_prompts(self, texts: list[str]) -> list[list[int]]:
        return [self.tok_encode(text) for text in texts]

    def generate_until(self: Any, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers as lm-eval's class does, after every prompt was looked at.

        Raises:
            RouteError: a prompt begins with two BOS ids.
        """
        prompts = self._encode_prompts([request.args[0] for request in requests])
        self._watch.look(requests, prompts, self.max_gen_toks)
        return super().generate_until(requests, disable_tqdm)  # type: ignore[misc]

    def loglikelihood(self: Any, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Scores as lm-eval's class does; the pairs are looked at as soon as they are token ids.

        Raises:
            RouteError: a context begins with two BOS ids.
        """
        self._pairs_of = requests
        try:
            return super().loglikelihood(requests, disable_tqdm)  # type: ignore[misc]
        finally:
            self._pairs_of = None

    def _loglikelihood_tokens(self: Any, requests: Any, *args: Any, **options: Any) -> list[tuple[float, bool]]:
        asked, self._pairs_of = self._pairs_of, None
        if asked is not None and len(asked) == len(requests):  # windows of a rolling likelihood are no prompts
            self._watch.look_at_pairs(asked, requests, self.max_length + self._pair_slack)
        return super()._loglikelihood_tokens(requests, *args, **options)  # type: ignore[misc]
