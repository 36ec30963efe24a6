"""The TÜLU chat format, as text and as a chat template (open-instruct 60ceefa6, eval/templates.py and finetune.py).

    <|system|>\n{content}\n<|user|>\n{content}\n<|assistant|>\n{content}</s>\n ... <|assistant|>\n

An answer's prefix follows the last header directly, since that ends in a line break. The original strips contents
in training and leaves them alone in its evaluation; `TULU_TEMPLATE` strips, so that a checkpoint meets what it learnt,
and `tulu_prompt` does not, so that the TÜLU suites ask as the original does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from peft_eval.data.source import Message

ROLES = ("system", "user", "assistant")
ANSWER_HEADER = "<|assistant|>\n"
# The same as a template for transformers; the tokenizer's own EOS stands where the original writes </s>.
TULU_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\n' + message['content'].strip() + eos_token + '\n' }}"
    "{% else %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'].strip() + '\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def tulu_prompt(messages: Iterable[Mapping[str, str]] | str, *, answer_prefix: str = "", eos: str = "</s>") -> str:
    """Returns a conversation up to where the model answers.

    Args:
        messages: mappings with `role` (system, user, assistant) and `content`; a string is one user turn.
        answer_prefix: what the answer begins with.
        eos: what ends an assistant's earlier turn.

    Raises:
        ValueError: a role that is none of the three.
    """
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    text = ""
    for turn in turns:
        if turn["role"] not in ROLES:
            raise ValueError(f"role {turn['role']!r} is none of {', '.join(ROLES)}")
        if turn["role"] == "assistant":
            text += f"{ANSWER_HEADER}{turn['content'].strip()}{eos}\n"
        else:
            text += f"<|{turn['role']}|>\n{turn['content']}\n"
    return text + ANSWER_HEADER + answer_prefix


def tulu_conversation(messages: Sequence[Message], *, eos: str) -> tuple[str, list[tuple[int, int]]]:
    """Returns a conversation as training text, and where in it the loss is computed.

    Source: `encode_with_messages_format` in open-instruct's finetune.py. What is masked there are the turns of others
    with the header of the answer that follows; so the line break after an earlier answer's EOS is learnt too.

    Args:
        messages: the turns.
        eos: the tokenizer's EOS token as text.

    Returns:
        The text, and (start, end) of each stretch that is learnt, in characters.

    Raises:
        ValueError: a role that is none of the three.
    """
    text = ""
    answers: list[tuple[int, int]] = []
    header_is_masked = False
    for turn in messages:
        if turn.role not in ROLES:
            raise ValueError(f"role {turn.role!r} is none of {', '.join(ROLES)}")
        start = len(text)
        text += f"<|{turn.role}|>\n{turn.content.strip()}"
        if turn.role == "assistant":
            text += eos
            answers.append((start + len(ANSWER_HEADER) * header_is_masked, len(text) + 1))
        text += "\n"
        header_is_masked = turn.role != "assistant"
    text = text.strip()
    return text, [(start, min(end, len(text))) for start, end in answers]
