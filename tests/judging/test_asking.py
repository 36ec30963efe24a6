"""Questions to a judge: cached by content, retried, resumed, refused at once where the key is wrong."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from peft_eval.errors import ConfigError, DataError, JudgeError, ManyErrors
from peft_eval.judging.answer_store import AnswerStore, question_hash
from peft_eval.judging.asking import ask, check
from peft_eval.judging.endpoint import Endpoint, endpoint_at, refuse_keys
from tests.judge_server import JudgeServer

pytest.importorskip("openai", reason="the extra alpaca is not installed")
KEY = "sk-very-secret"


def question(number: int) -> dict:
    return {"messages": [{"role": "user", "content": f"number {number}"}], "max_tokens": 5}


def judge(server: JudgeServer, key: str = "") -> Endpoint:
    return endpoint_at(server.url, "m", {"PEFT_EVAL_JUDGE_KEY": key})


@pytest.fixture
def store(tmp_path: Path):
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        yield store


def texts(answers: list) -> list:
    return [answer and answer["message"]["content"] for answer in answers]


def test_every_question_is_asked_once_and_answers_keep_their_order(store: AnswerStore) -> None:
    questions = [question(number % 7) for number in range(20)]
    with JudgeServer(lambda body: body["messages"][0]["content"]) as server:
        found = texts(ask(judge(server), questions, store))
        assert found == [f"number {number % 7}" for number in range(20)]
        assert len(server.bodies) == 7
        assert texts(ask(judge(server), questions, store)) == found
        assert len(server.bodies) == 7


def test_the_cache_tells_judges_and_questions_apart() -> None:
    body = question(1)
    names = {
        question_hash("a", body),
        question_hash("b", body),
        question_hash("a", question(2)),
        question_hash("a", body | {"max_tokens": 6}),
    }
    assert len(names) == 4
    assert question_hash("a", dict(reversed(body.items()))) == question_hash("a", body)


def test_questions_go_out_side_by_side(store: AnswerStore) -> None:
    together = threading.Barrier(4, timeout=20)

    def wait(body: dict) -> str:
        together.wait()
        return "x"

    with JudgeServer(wait) as server:
        ask(judge(server), [question(number) for number in range(8)], store, concurrency=4)


def test_a_judge_that_dies_midway_is_only_asked_for_the_rest(store: AnswerStore) -> None:
    seen = 0

    def dies(body: dict) -> str | tuple[int, str]:
        nonlocal seen
        seen += 1
        return "x" if seen <= 30 else (500, "down")

    questions = [question(number) for number in range(50)]
    with JudgeServer(dies) as server, pytest.raises(JudgeError, match="only what is missing is asked"):
        address = judge(server)
        ask(address, questions, store, concurrency=1, retries=0)
    with JudgeServer(lambda body: "y") as again:
        # The same judge, started again: its identity is its address, which the test keeps.
        back = Endpoint(url=again.url, model="m", identity=address.identity)
        assert texts(ask(back, questions, store)) == ["x"] * 30 + ["y"] * 20
        assert [body["messages"] for body in again.bodies] and len(again.bodies) == 20


def test_a_passing_failure_is_retried(store: AnswerStore) -> None:
    answers = iter([(429, "rate limit"), (503, "busy"), "x"])
    with JudgeServer(lambda body: next(answers)) as server:
        assert texts(ask(judge(server), [question(1)], store, retries=3)) == ["x"]
        assert len(server.bodies) == 3


def test_a_wrong_key_ends_it_at_once_and_is_not_shown(store: AnswerStore, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    started = time.monotonic()
    with JudgeServer(lambda body: "x", key="right") as server:
        for call in (lambda end: check(end), lambda end: ask(end, [question(n) for n in range(900)], store)):
            with pytest.raises(JudgeError) as caught:
                call(judge(server, KEY))
            assert "the key was refused (status 401)" in str(caught.value)
            assert "PEFT_EVAL_JUDGE_KEY" in str(caught.value) and "\n" not in str(caught.value)
            assert KEY not in str(caught.value)
        with pytest.raises(JudgeError, match="it asks for a key"):
            check(judge(server))
        assert not server.bodies
    assert time.monotonic() - started < 30
    assert KEY not in caplog.text


def test_the_key_is_sent_and_written_nowhere(store: AnswerStore, tmp_path: Path, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with JudgeServer(lambda body: "x", key=KEY) as server:
        endpoint = judge(server, KEY)
        check(endpoint)
        ask(endpoint, [question(1)], store)
        assert server.keys == [f"Bearer {KEY}"]
    assert KEY not in repr(endpoint) + caplog.text
    store.close()
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_openais_key_goes_to_openai_alone() -> None:
    environment = {"OPENAI_API_KEY": "o"}
    assert endpoint_at("https://api.openai.com/v1", "gpt-4", environment).key == "o"
    assert endpoint_at("https://elsewhere.example/v1", "gpt-4", environment).key == ""
    assert endpoint_at("https://api.openai.com/v1", "gpt-4", environment | {"PEFT_EVAL_JUDGE_KEY": "p"}).key == "p"


def test_one_refused_question_is_none_but_all_refused_is_an_error(store: AnswerStore) -> None:
    def refuses_the_third(body: dict) -> str | tuple[int, str]:
        return (400, "too long") if body["messages"][0]["content"] == "number 3" else "x"

    with JudgeServer(refuses_the_third) as server:
        found = texts(ask(judge(server), [question(number) for number in range(5)], store))
        assert found == ["x", "x", "x", None, "x"]
        with pytest.raises(JudgeError, match=r"refused every question: .*too long"):
            ask(judge(server), [question(3)], store)


def test_an_unknown_model_and_an_absent_judge(store: AnswerStore) -> None:
    with JudgeServer(lambda body: (404, "no model m")) as server, pytest.raises(JudgeError, match="no model m"):
        ask(judge(server), [question(1)], store)
    with pytest.raises(JudgeError, match="nobody answers there"):
        ask(endpoint_at("http://127.0.0.1:9/v1", "m", {}), [question(1)], store, retries=0)


def test_bad_settings() -> None:
    with pytest.raises(ManyErrors, match=r"is no address[^\n]*\n.*judge_model"):
        endpoint_at("localhost:8000", None, {})
    with pytest.raises(ConfigError, match="carries a key") as caught:
        endpoint_at("https://user:pass@host/v1", "m", {})
    assert "pass" not in str(caught.value).replace("bare", "")
    for name in ("judge_key", "judge_api_key", "JUDGE_TOKEN"):
        with pytest.raises(ConfigError, match="PEFT_EVAL_JUDGE_KEY") as caught:
            refuse_keys({name: KEY})
        assert KEY not in str(caught.value)
    refuse_keys({"judge_url": "x", "judge_model": "y", "gpt2_tokenizer": "z"})


def test_a_broken_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no database " * 100)
    with pytest.raises(DataError, match="judge_cache=FILE"):
        AnswerStore(tmp_path / "a")


def test_two_processes_may_share_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with AnswerStore(path) as one, AnswerStore(path) as two:
        one.put("a", {"x": 1})
        two.put("b", {"x": 2})
        assert (one.get("b"), two.get("a"), one.get("c")) == ({"x": 2}, {"x": 1}, None)
