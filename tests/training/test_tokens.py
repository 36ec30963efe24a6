"""Training sees the very prompt ids that evaluation sees, then the answer, then EOS."""

import pytest
from transformers import AutoTokenizer

from peft_eval.data.source import Example
from peft_eval.errors import ConfigError, DataError
from peft_eval.training.tokens import adds_bos, tokenise
from tests.tiny import tiny_llama


def _example(source: str, target: str) -> Example:
    return Example.pair("task", "category", "task#0", source, target)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(str(tiny_llama(tmp_path_factory.mktemp("base"))))


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory):
    return AutoTokenizer.from_pretrained(str(tiny_llama(tmp_path_factory.mktemp("base"), bos=True)))


def test_prompt_is_what_evaluation_tokenises(tokenizer):
    # "num" + "bers" would merge across the border, were the two tokenised as one text
    example = _example("Sort the num", "bers 0 1")
    (row,) = tokenise([example], tokenizer, max_source_tokens=50, max_target_tokens=50).rows
    prompt = tokenizer(example.source)["input_ids"]
    assert row.ids[: row.source_tokens].tolist() == prompt
    assert row.ids[row.source_tokens :].tolist() == tokenizer("bers 0 1")["input_ids"] + [tokenizer.eos_token_id]
    assert row.ids[:-1].tolist() != tokenizer(example.source + example.target)["input_ids"]


def test_bos_is_the_tokenizers_own_policy(tokenizer, with_bos):
    assert not adds_bos(tokenizer)
    assert adds_bos(with_bos)
    data = tokenise([_example("hello", "yes")], with_bos, max_source_tokens=50, max_target_tokens=50)
    assert data.adds_bos
    assert data.rows[0].ids.tolist().count(with_bos.bos_token_id) == 1  # none before the answer


def test_long_texts_are_cut_on_the_right_and_counted(with_bos):
    examples = [
        _example("one two three four five six", "no"),
        _example("one", "yes no yes no yes no"),
        _example("a", "b"),
    ]
    data = tokenise(examples, with_bos, max_source_tokens=5, max_target_tokens=4)
    assert (data.truncated_sources, data.truncated_targets, data.truncated_examples) == (1, 1, 2)
    prompt = with_bos(examples[0].source)["input_ids"]
    assert data.rows[0].ids[: data.rows[0].source_tokens].tolist() == prompt[:5]
    answer = with_bos(examples[1].target, add_special_tokens=False)["input_ids"]
    assert data.rows[1].ids[data.rows[1].source_tokens :].tolist() == answer[:4]  # no EOS: it does not end here
    assert data.rows[2].ids[-1] == with_bos.eos_token_id


def test_an_answer_that_just_fits_keeps_its_eos(tokenizer):
    answer = tokenizer("yes no", add_special_tokens=False)["input_ids"]
    limit = len(answer) + 1
    data = tokenise([_example("a", "yes no")], tokenizer, max_source_tokens=5, max_target_tokens=limit)
    assert data.truncated_examples == 0
    assert data.rows[0].ids[-1] == tokenizer.eos_token_id


def test_an_empty_answer_is_eos_alone(tokenizer):
    (row,) = tokenise([_example("a", "")], tokenizer, max_source_tokens=5, max_target_tokens=5).rows
    assert row.ids[row.source_tokens :].tolist() == [tokenizer.eos_token_id]


def test_no_examples_and_empty_prompts_are_refused(tokenizer):
    with pytest.raises(DataError, match="no example"):
        tokenise([], tokenizer, max_source_tokens=5, max_target_tokens=5)
    with pytest.raises(DataError, match="task, instance task#0: the prompt has no tokens"):
        tokenise([_example("", "x")], tokenizer, max_source_tokens=5, max_target_tokens=5)


def test_a_tokenizer_that_ends_prompts_is_refused(tmp_path):
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(str(tiny_llama(tmp_path)))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    with pytest.raises(ConfigError, match="appends EOS"):
        adds_bos(tokenizer)
