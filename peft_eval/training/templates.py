"""How turns become one text, and which of its characters are learnt: `--template`.

| template | text | for |
|---|---|---|
| plain | prompt and answer as they are, tokenised apart | a prompt with its answer |
| tulu | open-instruct's `<|user|>` format | any conversation |
| tokenizer | the base's own chat template | any conversation, if the template renders turn by turn |

`auto` is plain for prompts. For conversations it is the base's own chat template where it has one, else tulu.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peft_eval.data.chat import TULU_TEMPLATE, tulu_conversation
from peft_eval.data.source import Message
from peft_eval.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = ("auto", "plain", "tulu", "tokenizer")


@dataclass(frozen=True, slots=True)
class Template:
    """A template as chosen.

    Attributes:
        name: `plain`, `tulu` or `tokenizer`.
        text: the chat template (Jinja) that goes with the checkpoint; None for plain text.
    """

    name: str
    text: str | None

    @property
    def sha256(self) -> str | None:
        """Hash of the chat template, None for plain text."""
        return None if self.text is None else hashlib.sha256(self.text.encode()).hexdigest()


PLAIN = Template("plain", None)


def choose_template(asked: str, tokenizer: PreTrainedTokenizerBase, *, chat: bool) -> Template:
    """Returns the template to train with.

    Args:
        asked: one of `TEMPLATES`.
        tokenizer: the base's.
        chat: whether the data are conversations.

    Raises:
        ConfigError: the base has no chat template, or no EOS token that could end a TÜLU turn.
    """
    own = own_template(tokenizer)
    name = asked
    if asked == "auto":
        name = "plain" if not chat else "tokenizer" if own else "tulu"
    if name == "plain":
        return PLAIN
    if name == "tokenizer":
        if own is None:
            raise ConfigError("the base's tokenizer has no chat template", place="--template", remedy="use tulu")
        return Template("tokenizer", own)
    if tokenizer.eos_token is None:
        raise ConfigError("the base's tokenizer has no EOS token to end a turn with", place="--template")
    return Template("tulu", TULU_TEMPLATE)


def own_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Returns a tokenizer's chat template; of several named ones the default."""
    found = tokenizer.chat_template
    return found.get("default") if isinstance(found, dict) else found


def render(
    template: Template, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, *, place: str
) -> tuple[str, list[tuple[int, int]]]:
    """Returns a conversation as training text, and (start, end) of what is learnt, in characters.

    Args:
        template: `tulu` or `tokenizer`.
        messages: the turns.
        tokenizer: the base's.
        place: where the conversation is, for an error.

    Raises:
        DataError: the base's template refuses these turns, or writes earlier turns differently once others follow, so
            that what evaluation will ask was never seen.
    """
    if template.name == "tulu":
        return tulu_conversation(messages, eos=str(tokenizer.eos_token))
    turns = [message._asdict() for message in messages]
    text = _applied(template, turns, tokenizer, place)
    answers: list[tuple[int, int]] = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = _applied(template, turns[:index], tokenizer, place, to_be_continued=True)
        after = _applied(template, turns[: index + 1], tokenizer, place)
        if not after.startswith(before) or not text.startswith(after):
            raise DataError(
                "the base's chat template does not render turn by turn, so the answers cannot be told apart",
                place=place,
                remedy="use --template tulu",
            )
        answers.append((len(before), len(after)))
    return text, answers


def _applied(
    template: Template,
    turns: list[dict[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    place: str,
    *,
    to_be_continued: bool = False,
) -> str:
    import jinja2

    try:
        return str(
            tokenizer.apply_chat_template(
                turns, chat_template=template.text, tokenize=False, add_generation_prompt=to_be_continued
            )
        )
    except (jinja2.TemplateError, IndexError) as error:  # transformers reads the first turn of none
        raise DataError(
            f"the base's chat template refuses it: {error}", place=place, remedy="use --template tulu"
        ) from error
