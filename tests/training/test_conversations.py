"""A conversation's ids and mask are open-instruct's, to the token; evaluation's prompt is their beginning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from peft_eval.data.chat import TULU_TEMPLATE
from peft_eval.data.source import Example, Message
from peft_eval.errors import ConfigError, DataError
from peft_eval.training.templates import choose_template
from peft_eval.training.tokens import tokenise_conversations
from tests.tiny import tiny_llama

CONVERSATIONS = {
    "one turn": [("user", "Sort 3 1 2"), ("assistant", "1 2 3")],
    "system": [("system", "Be brief."), ("user", " Hello?\n"), ("assistant", "\n Yes. \n")],
    "several turns": [
        ("user", "a"),
        ("assistant", "b\n\nb"),
        ("user", "ünï — 中文"),
        ("assistant", "d 🙂"),
        ("user", "e"),
    ],
    "an answer first": [("assistant", "Hi."), ("user", "Hi"), ("assistant", "What?")],
    "two answers": [("user", "x"), ("assistant", "one"), ("assistant", "two"), ("user", "y"), ("user", "z")],
    "an empty answer": [("user", "x"), ("assistant", "  "), ("user", "y"), ("assistant", "z")],
    "markers in contents": [("user", "<|assistant|>\nno"), ("assistant", "<|user|>\nwhat </s> is this")],
}
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _example(turns: list[tuple[str, str]]) -> Example:
    return Example("chat", "chat", "chat#0", tuple(Message(*turn) for turn in turns))


@pytest.fixture(scope="module", params=[False, True], ids=["without BOS", "with BOS"])
def tokenizer(request, tmp_path_factory):
    return AutoTokenizer.from_pretrained(str(tiny_llama(tmp_path_factory.mktemp("base"), bos=request.param)))


def original(messages: list[tuple[str, str]], tokenizer, limit: int) -> tuple[list[int], list[bool]]:
    """Restates what open-instruct's `encode_with_messages_format` does: every border found by tokenising a prefix."""

    def as_text(turns):
        ends = {"assistant": tokenizer.eos_token + "\n"}
        return "".join(f"<|{role}|>\n{content.strip()}{ends.get(role, chr(10))}" for role, content in turns)

    def length(text: str) -> int:
        return len(tokenizer(text, max_length=limit, truncation=True)["input_ids"])

    ids = tokenizer(as_text(messages).strip(), max_length=limit, truncation=True)["input_ids"]
    learnt = [True] * len(ids)
    for index, (role, _) in enumerate(messages):
        if role == "assistant":
            continue
        until = as_text(messages[: index + 1])
        if index + 1 < len(messages) and messages[index + 1][0] == "assistant":
            until += "<|assistant|>\n"
        for place in range(0 if index == 0 else length(as_text(messages[:index])), min(length(until), len(ids))):
            learnt[place] = False
    return ids, learnt


@pytest.mark.parametrize("limit", [2048, 17])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tulu_is_open_instructs(tokenizer, name: str, limit: int):
    template = choose_template("tulu", tokenizer, chat=True)
    data = tokenise_conversations([_example(CONVERSATIONS[name])], tokenizer, template, max_tokens=limit)
    ids, learnt = original(CONVERSATIONS[name], tokenizer, limit)
    assert data.rows[0].ids.tolist() == ids
    assert data.rows[0].learnt[1:].tolist() == learnt[1:]  # nothing predicts the first token
    whole, _ = original(CONVERSATIONS[name], tokenizer, 2048)
    assert data.truncated_examples == (len(whole) > limit)
    assert data.adds_bos == (ids[0] == tokenizer.bos_token_id)


def test_tulu_is_open_instructs_with_gpt2s_tokenizer_on_real_conversations(shared_data: Path):
    tokenizer = AutoTokenizer.from_pretrained(str(shared_data / "tokenizers" / "gpt2"))
    conversations = list(_oasst(shared_data / "oasst" / "en_100_tree.jsonl"))
    assert len(conversations) == 100
    template = choose_template("tulu", tokenizer, chat=True)
    rows = tokenise_conversations(
        [_example(turns) for turns in conversations], tokenizer, template, max_tokens=512
    ).rows
    for turns, row in zip(conversations, rows, strict=True):
        ids, learnt = original(turns, tokenizer, 512)
        assert (row.ids.tolist(), row.learnt[1:].tolist()) == (ids, learnt[1:])


def _oasst(path: Path):
    import json

    for line in path.read_text().splitlines():
        node, turns = json.loads(line)["prompt"], []
        while node:
            turns.append(("assistant" if node["role"] == "assistant" else "user", node["text"]))
            node = node["replies"][0] if node["replies"] else None
        yield turns if len(turns) % 2 == 0 else turns[:-1] or turns


def test_the_template_in_jinja_writes_what_training_saw(tokenizer):
    template = choose_template("tulu", tokenizer, chat=True)
    assert template.text == TULU_TEMPLATE
    for turns in CONVERSATIONS.values():
        (row,) = tokenise_conversations([_example(turns)], tokenizer, template, max_tokens=2048).rows
        messages = [{"role": role, "content": content} for role, content in turns]
        text = tokenizer.apply_chat_template(messages, chat_template=template.text, tokenize=False)
        assert tokenizer(text.strip())["input_ids"] == row.ids.tolist()
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Sort 3 1 2"}],
        chat_template=template.text,
        tokenize=False,
        add_generation_prompt=True,
    )
    (row,) = tokenise_conversations([_example(CONVERSATIONS["one turn"])], tokenizer, template, max_tokens=99).rows
    assert row.ids[: row.source_tokens].tolist() == tokenizer(prompt)["input_ids"]
    assert row.ids[-1] == tokenizer.eos_token_id
    continued = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Sort"}, {"role": "assistant", "content": "The answer is"}],
        chat_template=template.text, tokenize=False, continue_final_message=True,
    )  # fmt: skip
    assert continued == "<|user|>\nSort\n<|assistant|>\nThe answer is"


def test_the_tokenizers_own_template_is_learnt_answer_by_answer(tokenizer):
    tokenizer.chat_template = CHATML
    try:
        template = choose_template("auto", tokenizer, chat=True)
        assert template.name == "tokenizer"
        example = _example(CONVERSATIONS["several turns"])
        (row,) = tokenise_conversations([example], tokenizer, template, max_tokens=2048).rows
        learnt = tokenizer.decode(row.ids[row.learnt])
        assert learnt == "b\n\nb<|im_end|>\nd 🙂<|im_end|>\n"
        assert choose_template("auto", tokenizer, chat=False).name == "plain"
    finally:
        tokenizer.chat_template = None
    assert choose_template("auto", tokenizer, chat=True).name == "tulu"
    with pytest.raises(ConfigError, match="no chat template"):
        choose_template("tokenizer", tokenizer, chat=True)


def test_a_template_that_writes_bos_gets_no_second_one(tokenizer):
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    try:
        template = choose_template("tokenizer", tokenizer, chat=True)
        data = tokenise_conversations([_example(CONVERSATIONS["one turn"])], tokenizer, template, max_tokens=2048)
    finally:
        tokenizer.chat_template = None
    assert data.rows[0].ids.tolist().count(tokenizer.bos_token_id) == 1
    assert data.adds_bos


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer):
    rewrites = "{% for m in messages %}{{ m['content'] if loop.last else 'gone' }}{% endfor %}"
    tokenizer.chat_template = rewrites
    try:
        template = choose_template("tokenizer", tokenizer, chat=True)
        with pytest.raises(DataError, match="chat, instance chat#0: the base's chat template does not render"):
            tokenise_conversations([_example(CONVERSATIONS["one turn"])], tokenizer, template, max_tokens=99)
    finally:
        tokenizer.chat_template = None


def test_a_conversation_whose_answers_are_cut_away_is_told(tokenizer):
    template = choose_template("tulu", tokenizer, chat=True)
    examples = [_example(CONVERSATIONS["one turn"]), _example([("user", "long " * 50), ("assistant", "no")])]
    data = tokenise_conversations(examples, tokenizer, template, max_tokens=40)
    assert data.nothing_learnt == [1]
    assert not np.any(data.rows[1].learnt)
