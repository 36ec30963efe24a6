"""Examples become token ids with a mask over what is learnt.

Of a prompt with its answer the two are tokenised apart, as evaluation sees them: it tokenises the prompt alone and lets
the model go on, so training must not let a merge cross the border. The prompt gets the special tokens the tokenizer
adds by default (BOS or none), the answer none but a closing EOS. An encoder-decoder's prompt keeps the EOS that its
tokenizer adds: it ends what the encoder reads.

A conversation is tokenised as one text, as open-instruct does; a token is learnt if it begins within an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from peft_eval.data.source import Example
from peft_eval.errors import ConfigError, DataError
from peft_eval.training.templates import Template, render
from peft_eval.training.token_cache import cache_key, cached_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 1_000  # conversations tokenised at a time: their encodings hold every offset


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One example's tokens.

    Attributes:
        ids: int32 (tokens,).
        learnt: bool (tokens,), True where the loss is computed; never at the first token, which nothing predicts.
    """

    ids: np.ndarray
    learnt: np.ndarray

    @classmethod
    def pair(cls, prompt: Sequence[int], answer: Sequence[int]) -> TokenRow:
        """Returns a row of a prompt and an answer."""
        ids = np.array([*prompt, *answer], dtype=np.int32)
        return cls(ids, np.arange(len(ids)) >= len(prompt))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def source_tokens(self) -> int:
        """How many tokens come before the first that is learnt."""
        return int(self.learnt.argmax()) if self.learnt.any() else len(self.ids)

    def last_answer(self) -> tuple[list[int], list[int]]:
        """Returns the ids before the last stretch that is learnt, and the ids of that stretch."""
        end = len(self.ids) - int(self.learnt[::-1].argmax())
        unlearnt = np.flatnonzero(~self.learnt[:end])
        start = int(unlearnt[-1]) + 1 if len(unlearnt) else 0
        return self.ids[:start].tolist(), self.ids[start:end].tolist()

    @property
    def target_tokens(self) -> int:
        """How many tokens the loss is computed on."""
        return int(self.learnt.sum())


@dataclass(frozen=True, slots=True)
class TokenData:
    """All examples' tokens, in the order of the data, and what was cut.

    Attributes:
        rows: one for each example.
        adds_bos: whether prompts begin with BOS.
        truncated_sources, truncated_targets: how many prompts and answers of pairs were cut.
        truncated_examples: how many examples were cut anywhere.
        nothing_learnt: the indices of conversations with no answer left within the limit; their rows are empty of loss.
    """

    rows: list[TokenRow]
    adds_bos: bool
    truncated_sources: int = 0
    truncated_targets: int = 0
    truncated_examples: int = 0
    nothing_learnt: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Limits:
    """The greatest lengths in tokens: of prompt and answer of plain text, or of a whole conversation."""

    source: int
    target: int
    conversation: int


def tokens_of(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    limits: Limits,
    *,
    encoder_decoder: bool = False,
) -> TokenData:
    """Tokenises examples as training does, with a template of either kind, or takes them from the cache.

    Raises:
        ConfigError, DataError: see `tokenise` and `tokenise_conversations`.
    """

    def make() -> TokenData:
        if template.text is None:
            return tokenise(
                examples,
                tokenizer,
                max_source_tokens=limits.source,
                max_target_tokens=limits.target,
                encoder_decoder=encoder_decoder,
            )
        return tokenise_conversations(examples, tokenizer, template, max_tokens=limits.conversation)

    return cached_tokens(cache_key(tokenizer, _parts(examples), template, limits, encoder_decoder), make)


def _parts(examples: Sequence[Example]) -> Iterator[str]:
    """Yields all that token ids take from the examples, each example with its number of turns before it."""
    for example in examples:
        yield str(len(example.messages))
        for turn in example.messages:
            yield turn.role
            yield turn.content


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tells whether the tokenizer puts BOS before a text by default.

    Raises:
        ConfigError: it appends EOS to prompts, so that a model would have to answer after the end.
    """
    ids = tokenizer("a")["input_ids"]
    if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        raise ConfigError(
            "the base's tokenizer appends EOS to every prompt",
            place="tokenizer_config.json",
            remedy="set add_eos_token to false in the base's folder",
        )
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def tokenise(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_source_tokens: int,
    max_target_tokens: int,
    encoder_decoder: bool = False,
) -> TokenData:
    """Tokenises prompts and answers.

    A prompt longer than `max_source_tokens` (special tokens included) is cut on the right, which is
    the encoding rule of Tk-Instruct (PROTOCOLS C2). An answer longer than `max_target_tokens` (EOS
    included) is cut on the right and gets no EOS, since it does not end there.

    Raises:
        ConfigError: the tokenizer appends EOS to the prompts of a decoder-only base.
        DataError: there is nothing to train on, a prompt has no tokens, or an example has more than two turns.
    """
    _check_not_empty(examples)
    for example in examples:
        if not example.is_pair:
            raise DataError("plain text cannot show several turns", place=example.place, remedy="use --template tulu")
    begins_with_bos = False if encoder_decoder else adds_bos(tokenizer)
    sources = _encoded(tokenizer, [example.source for example in examples])["input_ids"]
    targets = _encoded(tokenizer, [example.target for example in examples], add_special_tokens=False)["input_ids"]
    rows: list[TokenRow] = []
    cut_sources = cut_targets = cut_examples = 0
    for example, source, target in zip(examples, sources, targets, strict=True):
        if not source:
            raise DataError("the prompt has no tokens", place=example.place)
        answer = [*target, tokenizer.eos_token_id]
        source_cut, target_cut = len(source) > max_source_tokens, len(answer) > max_target_tokens
        cut_sources += source_cut
        cut_targets += target_cut
        cut_examples += source_cut or target_cut
        if source_cut:
            end = source[-1:] if encoder_decoder and source[-1] == tokenizer.eos_token_id else []
            source = source[: max_source_tokens - len(end)] + end
        rows.append(TokenRow.pair(source, answer[:max_target_tokens]))
    return TokenData(rows, begins_with_bos, cut_sources, cut_targets, cut_examples)


def tokenise_conversations(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, template: Template, *, max_tokens: int
) -> TokenData:
    """Renders conversations and tokenises each as one text, cut on the right at `max_tokens`.

    Raises:
        ConfigError: the tokenizer appends EOS to texts, or cannot say where a token stands in a text.
        DataError: there is nothing to train on, or the template cannot render a conversation.
    """
    _check_not_empty(examples)
    adds_bos(tokenizer)
    if not tokenizer.is_fast:
        raise ConfigError("a chat template needs a fast tokenizer", place="--template", remedy="use --template plain")
    rows: list[TokenRow] = []
    cut = 0
    nothing_learnt: list[int] = []
    for start in range(0, len(examples), _CHUNK):
        chunk = examples[start : start + _CHUNK]
        rendered = [render(template, example.messages, tokenizer, place=example.place) for example in chunk]
        texts = [text for text, _ in rendered]
        # A template may write BOS itself; then the tokenizer must not, which is lm-eval's rule as well.
        written = bool(tokenizer.bos_token) and all(text.startswith(str(tokenizer.bos_token)) for text in texts)
        encoded = _encoded(tokenizer, texts, add_special_tokens=not written)
        for index, (text, answers) in enumerate(rendered):
            ids = np.array(encoded["input_ids"][index], dtype=np.int32)
            learnt = np.zeros(len(ids), dtype=bool)
            for begin, end in answers:
                first, after = (_first_token(encoded, index, place, len(text)) for place in (begin, end))
                learnt[first:after] = True
            learnt[:1] = False
            cut += len(ids) > max_tokens
            if not learnt[:max_tokens].any():
                nothing_learnt.append(start + index)
            rows.append(TokenRow(ids[:max_tokens], learnt[:max_tokens]))
    begins_with_bos = tokenizer.bos_token_id is not None and int(rows[0].ids[0]) == tokenizer.bos_token_id
    return TokenData(rows, begins_with_bos, truncated_examples=cut, nothing_learnt=nothing_learnt)


def _check_not_empty(examples: Sequence[Example]) -> None:
    if not examples:
        raise DataError("the data holds no example", remedy="check --data, --tasks and --instances-per-task")


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any) -> Any:
    limit, tokenizer.model_max_length = tokenizer.model_max_length, int(1e30)  # we count cuts ourselves
    try:
        return tokenizer(texts, **options)
    finally:
        tokenizer.model_max_length = limit


def _first_token(encoded: Any, row: int, position: int, text_length: int) -> int:
    """Returns the first token that begins at or after a character; the number of tokens if there is none.

    Some characters have no token: a pre-tokenizer's offsets may leave out the space before a word.
    """
    for place in range(position, text_length):
        token = encoded.char_to_token(row, place)
        if token is not None:
            return token if encoded.token_to_chars(row, token).start >= position else token + 1
    return len(encoded["input_ids"][row])
