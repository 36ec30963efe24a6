"""Examples become token ids: prompt and answer tokenised apart, as evaluation sees them.

Evaluation tokenises the prompt alone and lets the model go on, so training must not let a merge
cross the border. The prompt gets the special tokens the tokenizer adds by default (BOS or none),
the answer none but a closing EOS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from peft_eval.data.source import Example
from peft_eval.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One example's tokens.

    Attributes:
        ids: int32 (source + target,), the prompt's tokens, then the answer's.
        source_tokens: how many of them are the prompt's.
    """

    ids: np.ndarray
    source_tokens: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def target_tokens(self) -> int:
        """How many tokens the loss is computed on."""
        return len(self.ids) - self.source_tokens


@dataclass(frozen=True, slots=True)
class TokenData:
    """All examples' tokens, in the order of the data, and what was cut.

    Attributes:
        rows: one for each example.
        adds_bos: whether prompts begin with BOS.
        truncated_sources, truncated_targets: how many prompts and answers were cut.
        truncated_examples: how many examples had either.
    """

    rows: list[TokenRow]
    adds_bos: bool
    truncated_sources: int
    truncated_targets: int
    truncated_examples: int


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
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, max_source_tokens: int, max_target_tokens: int
) -> TokenData:
    """Tokenises examples.

    A prompt longer than `max_source_tokens` (special tokens included) is cut on the right, which is
    the encoding rule of Tk-Instruct (PROTOCOLS C2). An answer longer than `max_target_tokens` (EOS
    included) is cut on the right and gets no EOS, since it does not end there.

    Raises:
        ConfigError: the tokenizer appends EOS to prompts.
        DataError: there is nothing to train on, or a prompt has no tokens.
    """
    if not examples:
        raise DataError("the data holds no example", remedy="check --data, --tasks and --instances-per-task")
    begins_with_bos = adds_bos(tokenizer)
    long_warning, tokenizer.model_max_length = tokenizer.model_max_length, int(1e30)  # we count cuts ourselves
    sources = tokenizer([example.source for example in examples])["input_ids"]
    targets = tokenizer([example.target for example in examples], add_special_tokens=False)["input_ids"]
    tokenizer.model_max_length = long_warning
    rows: list[TokenRow] = []
    cut_sources = cut_targets = cut_examples = 0
    for example, source, target in zip(examples, sources, targets, strict=True):
        if not source:
            raise DataError("the prompt has no tokens", place=f"{example.task}, instance {example.instance_id}")
        answer = [*target, tokenizer.eos_token_id]
        source_cut, target_cut = len(source) > max_source_tokens, len(answer) > max_target_tokens
        cut_sources += source_cut
        cut_targets += target_cut
        cut_examples += source_cut or target_cut
        prompt = source[:max_source_tokens]
        rows.append(TokenRow(np.array(prompt + answer[:max_target_tokens], dtype=np.int32), len(prompt)))
    return TokenData(rows, begins_with_bos, cut_sources, cut_targets, cut_examples)
