"""The TÜLU chat format, as text and as a chat template (open-instruct 60ceefa6, eval/templates.py and finetune.py).

    <|system|>\n{content}\n<|user|>\n{content}\n<|assistant|>\n{content}</s>\n ... <|assistant|>\n

An answer's prefix follows the last header directly, since that ends in a line break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

ROLES = ("system", "user", "assistant")
ANSWER_HEADER = "<|assistant|>\n"
# The same as a template for transformers; the tokenizer's own EOS stands where the original writes </s>.
TULU_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\n' + message['content'].strip() + eos_token + '\n' }}"
    "{% else %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '\n' }}"
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
