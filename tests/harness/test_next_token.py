"""One request a context, and contexts encoded in blocks: the numbers are lm-eval's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peft_eval.harness.encoding_ahead import EncodingAhead
from tests.tiny import tiny_llama

CONTEXTS = ["Sort the numbers", "the quick brown fox ", "yes or no. " * 30, "now\n"]


class Encoder:
    """Stands for lm-eval's class: encodes a text or a list, and asks for both texts of every pair."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def tok_encode(self, string: Any, add_special_tokens: bool | None = None) -> Any:
        self.calls.append(string)
        texts = [string] if isinstance(string, str) else string
        encoded = [[ord(sign) for sign in text] for text in texts]
        return encoded[0] if isinstance(string, str) else encoded

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        pairs = []
        for context, continuation in (request.args for request in requests):
            spaces = len(context) - len(context.rstrip())
            whole = self.tok_encode(context + continuation)
            pairs.append((whole, self.tok_encode(context[: len(context) - spaces])))
        return pairs


class Ahead(EncodingAhead, Encoder):
    pass


def requests(contexts: list[str], continuations: tuple[str, ...] = (" A", " B", "C")) -> list[Any]:
    return [SimpleNamespace(args=(context, one)) for context in contexts for one in continuations]


def test_texts_are_encoded_in_blocks_and_each_context_once():
    asked = requests([f"{context}{n}" for n in range(300) for context in ("a ", "b  ")])
    ours, theirs = Ahead(), Encoder()
    assert ours.loglikelihood(asked) == theirs.loglikelihood(asked)
    lists = [call for call in ours.calls if isinstance(call, list)]
    assert len(lists) == 4 and sum(map(len, lists)) < len(theirs.calls)
    assert len(ours.calls) == len(lists)


def test_what_is_not_among_the_requests_is_encoded_as_ever():
    model = Ahead()
    assert model.tok_encode("x") == [120] and model.tok_encode(["x"]) == [[120]]
    assert model.loglikelihood(requests(["", "  ", "a"])) == Encoder().loglikelihood(requests(["", "  ", "a"]))
    assert model._ahead is None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from peft_eval.harness.vllm_model import PeftVLLM

    folder: Path = tmp_path_factory.mktemp("base")
    tiny_llama(folder, context=2048)
    return PeftVLLM(pretrained=str(folder), dtype="float32", seed=1)


@pytest.mark.vllm
def test_equal_to_lm_evals_way_on_a_real_engine(model: Any):
    from lm_eval.api.instance import Instance

    stock = next(one for one in type(model).__mro__ if one.__module__ == "lm_eval.models.vllm_causallms")
    continuations = ("A", "B", " words that are several tokens", "A", "\n")
    asked = [
        Instance("loglikelihood", {}, (context, one), index, metadata=("task", index, 1))
        for index, context in enumerate([*CONTEXTS, "x" * 3000])
        for one in continuations
    ]
    pairs = [(one.args, *model._encode_pair(*one.args)) for one in asked]
    singles = sum(len(continuation) == 1 for _, _, continuation in pairs)
    assert 0 < singles < len(pairs)
    ours, theirs = model.loglikelihood(asked), stock._loglikelihood_tokens(model, pairs)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    assert [score for score, _ in ours] == pytest.approx([score for score, _ in theirs], abs=1e-5)


@pytest.mark.vllm
def test_one_request_a_context_that_may_use_the_prefix_cache(model: Any, monkeypatch: pytest.MonkeyPatch):
    from lm_eval.api.instance import Instance

    asked = [
        Instance("loglikelihood", {}, (f"{'one two three ' * 20}{n}", letter), n, metadata=("task", n, 1))
        for n in range(6)
        for letter in "ABCD"
    ]
    sent: list[Any] = []
    generate = model.model.generate

    def spy(prompts: Any, sampling_params: Any, **options: Any) -> Any:
        sent.extend(zip(prompts, sampling_params, strict=True))
        return generate(prompts, sampling_params=sampling_params, **options)

    monkeypatch.setattr(model.model, "generate", spy)
    before = model._watch.counts.prompts["task"]
    answers = model.loglikelihood(asked)
    assert len(answers) == 24 and len(sent) == 6
    assert all(parameters.prompt_logprobs is None for _, parameters in sent)
    counts = model._watch.counts
    assert counts.prompts["task"] == before + 6  # questions, not continuations
    assert not counts.cut_answers["task"]
