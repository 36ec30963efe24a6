"""A store between lm-eval's class and the engine: each question asked once, by whom and how being part of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peft_eval.harness.answers import AnswerStore
from peft_eval.harness.stored_answers import StoredOutputs

pytest.importorskip("vllm", reason="vLLM is not installed")


class Engine:
    """Answers with what it was asked, one request a step, through the same two methods as vLLM's."""

    def __init__(self) -> None:
        self.llm_engine = SimpleNamespace(add_request=self._add, step=self._step)
        self.waiting: list[tuple[str, list[int]]] = []
        self.seen: list[list[int]] = []
        self.count = 0
        self.dies_after: int | None = None

    def generate(self, requests: list[list[int]]) -> list[Any]:
        for ids in requests:
            self.llm_engine.add_request(str(self.count), ids)
            self.count += 1
        found: list[Any] = []
        while self.waiting:
            found += self.llm_engine.step()
        return found

    def _add(self, request_id: str, ids: list[int]) -> None:
        self.waiting.append((request_id, ids))

    def _step(self) -> list[Any]:
        if self.dies_after is not None and len(self.seen) >= self.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        request_id, ids = self.waiting.pop()  # the last comes first, as may happen
        self.seen.append(ids)
        completion = SimpleNamespace(text=f"{ids} {len(self.seen)}", finish_reason="stop", token_ids=[1])
        return [SimpleNamespace(request_id=request_id, prompt_token_ids=ids, outputs=[completion], finished=True)]


class Below:
    """What lm-eval's class does below the store."""

    max_length = 100

    def __init__(self) -> None:
        self.model = Engine()
        self.scored: list[Any] = []

    def _model_generate(self, requests: Any, generate: bool = False, sampling_params: Any = None) -> Any:
        return self.model.generate(requests)

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, **_: Any) -> Any:
        self.scored += requests
        return [(-float(sum(context)), len(continuation) == 1) for _, context, continuation in requests]


class Model(StoredOutputs, Below):
    """As `PeftVLLM` mixes it."""


def model(store: AnswerStore, speaker: Any = "a") -> Model:
    made = Model()
    made.remember_in(store, speaker)
    return made


def params(**settings: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(**{"temperature": 0, "max_tokens": 4, **settings})


def ask(one: Model, prompts: list[list[int]], *settings: Any) -> list[str]:
    each = list(settings) if len(settings) > 1 else [settings[0] if settings else params()] * len(prompts)
    return [output.outputs[0].text for output in one._model_generate(prompts, True, each)]


@pytest.fixture
def store(tmp_path: Path) -> AnswerStore:
    return AnswerStore(tmp_path / "answers.sqlite")


def test_a_rerun_with_more_asks_only_what_is_missing_and_answers_alike(store: AnswerStore) -> None:
    first = model(store)
    prompts = [[1], [2, 2], [3]]
    answers = ask(first, prompts)
    assert [answer.rpartition(" ")[0] for answer in answers] == ["[1]", "[2, 2]", "[3]"]
    second = model(store)
    assert ask(second, [[4], *prompts])[1:] == answers
    assert second.model.seen == [[4]]
    assert (second.asked, second.remembered) == (1, 3)


def test_who_is_asked_and_how_make_another_question(store: AnswerStore) -> None:
    ask(model(store), [[1]])
    for one, how in [
        (model(store, "b"), params()),
        (model(store), params(max_tokens=5)),
        (model(store), params(stop=["\n"])),
        (model(store), params(temperature=0.5)),
        (model(store), params(temperature=0.5, seed=1)),
    ]:
        ask(one, [[1]], how)
        assert one.model.seen == [[1]]
    again = model(store)
    ask(again, [[1], [1]], params(stop=["\n"]), params())
    assert not again.model.seen


def test_drawn_answers_are_told_apart_by_their_turn(store: AnswerStore) -> None:
    drawn = params(temperature=0.8)
    first = ask(model(store), [[1]] * 3, drawn)
    assert len(set(first)) == 3
    more = model(store)
    found = ask(more, [[1]] * 5, drawn)
    assert found[:3] == first
    assert len(more.model.seen) == 2
    greedy = model(store)
    assert len(set(ask(greedy, [[9]] * 4))) == 1
    assert greedy.model.seen == [[9]]


def test_scores_are_stored_as_well(store: AnswerStore) -> None:
    requests = [(("a", "b"), [1, 2], [3]), (("a", "c"), [1, 2], [4, 5]), (None, [7], [8])]
    scores = model(store)._loglikelihood_tokens(requests)
    assert scores == [(-3.0, True), (-3.0, False), (-7.0, True)]
    again = model(store)
    assert again._loglikelihood_tokens([*requests, (("x", "y"), [9], [9])])[:3] == scores
    assert len(again.scored) == 1
    other = model(store, "b")
    other._loglikelihood_tokens(requests)
    assert len(other.scored) == 3


def test_a_context_that_is_cut_is_another_question_in_another_length(store: AnswerStore) -> None:
    long = [(("a", "b"), list(range(120)), [3])]
    model(store)._loglikelihood_tokens(long)
    shorter = model(store)
    shorter.max_length = 90
    shorter._loglikelihood_tokens(long)
    assert shorter.scored


def test_without_a_store_nothing_is_kept() -> None:
    one = Model()
    ask(one, [[1], [1]])
    assert one.model.seen == [[1], [1]]


def test_after_sigkill_only_the_rest_is_asked(store: AnswerStore) -> None:
    child = os.fork()
    if not child:
        try:
            dying = model(AnswerStore(store.path))
            dying.model.dies_after = 7
            ask(dying, [[number] for number in range(20)])
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert len(store) == 7
    one = model(store)
    answers = ask(one, [[number] for number in range(20)])
    assert sorted(one.model.seen) == [[number] for number in range(13)]
    assert [answer.rpartition(" ")[0] for answer in answers] == [f"[{number}]" for number in range(20)]
