"""AlpacaEval's verdicts: stored annotations give the published numbers, and a judge is asked for nothing else."""

from __future__ import annotations

import json
import logging
import statistics
from pathlib import Path

import pytest

from peft_eval.errors import ConfigError, DataError, JudgeError
from peft_eval.judging.answer_store import AnswerStore
from peft_eval.judging.endpoint import endpoint_at
from peft_eval.judging.pairwise import Comparison, check_judge, preferences, read_annotations
from tests.judge_server import FIRST, JudgeServer, prefers, shown_answers

pytest.importorskip("alpaca_eval", reason="the extra alpaca is not installed")

PAIRS = [Comparison(f"question {n}", f"reference {n}", f"answer {n} " + "!" * n) for n in range(40)]


@pytest.fixture
def store(tmp_path: Path):
    with AnswerStore(tmp_path / "answers.sqlite") as store:
        yield store


@pytest.mark.parametrize(
    ("model", "win_rate", "standard_error", "judged"),
    [
        ("alpaca-7b", 26.459627329192543, 1.535711469748, 805),
        ("text_davinci_001", 15.17412935323383, 1.235107892276849, 804),
    ],
)
def test_stored_annotations_give_the_published_win_rate_without_a_call(
    shared_data: Path, store: AnswerStore, model: str, win_rate: float, standard_error: float, judged: int
) -> None:
    stored = read_annotations(shared_data / "alpaca_eval" / "results" / model / "alpaca_eval_gpt4" / "annotations.json")
    pairs = [Comparison(row["instruction"], row["output_1"], row["output_2"]) for row in stored]
    with JudgeServer(lambda body: (500, "not to be asked")) as server:
        found = preferences(pairs, endpoint_at(server.url, "gpt-4", {}), store, stored=stored)
        assert not server.bodies
    values = [100 * value for value in found if value is not None]
    assert len(values) == judged
    assert statistics.mean(values) == pytest.approx(win_rate, abs=5e-5)
    assert statistics.stdev(values) / judged**0.5 == pytest.approx(standard_error, abs=5e-5)


def test_the_verdict_is_about_answers_not_places(store: AnswerStore) -> None:
    with JudgeServer(prefers(len)) as server:
        found = preferences(PAIRS, endpoint_at(server.url, "gpt-4", {}), store)
        assert found == [float(len(pair.answer) > len(pair.reference)) for pair in PAIRS]
        shown_first = [shown_answers(body)[0].startswith("reference") for body in server.bodies]
        assert 10 < sum(shown_first) < 30  # the order is drawn
        sent = {(body["model"], body["max_tokens"], body["temperature"]) for body in server.bodies}
        assert sent == {("gpt-4", 100, 0)}
    with JudgeServer(lambda body: FIRST) as biased:
        share = preferences(PAIRS, endpoint_at(biased.url, "gpt-4", {}), store)
    assert 0.25 < statistics.mean(share) < 0.75


def test_an_answer_without_a_verdict_is_counted_not_guessed(store: AnswerStore, caplog) -> None:
    replies = {'question 1"': "I like both.", 'question 2"': "", 'question 3"': (400, "too long")}

    def judge(body: dict):
        text = body["messages"][-1]["content"]
        return next((reply for mark, reply in replies.items() if mark in text), FIRST)

    with JudgeServer(judge) as server, caplog.at_level(logging.INFO):
        found = preferences(PAIRS[:5], endpoint_at(server.url, "gpt-4", {}), store)
    assert [value is None for value in found] == [False, True, True, True, False]
    assert not [record for record in caplog.records if "alpaca_eval" in record.pathname]


def test_a_judge_of_nonsense_gives_no_verdict_at_all(store: AnswerStore) -> None:
    with JudgeServer(lambda body: "blah") as server:
        assert preferences(PAIRS, endpoint_at(server.url, "gpt-4", {}), store) == [None] * 40
        assert preferences(PAIRS, endpoint_at(server.url, "gpt-4", {}), store) == [None] * 40
        assert len(server.bodies) == 40  # nonsense is not asked for twice either


def test_equal_answers_are_a_draw_and_cost_nothing(store: AnswerStore) -> None:
    pairs = [Comparison(f"q{n}", "same", "same") for n in range(3)]
    assert preferences(pairs, None, None) == [0.5] * 3


def test_repeated_pairs_and_odd_texts(store: AnswerStore) -> None:
    odd = Comparison("{output_1} “q”\n", "", '{instruction} """ 答え')
    with JudgeServer(lambda body: FIRST) as server:
        found = preferences([odd, odd], endpoint_at(server.url, "gpt-4", {}), store)
        assert found[0] == found[1] and found[0] in (0.0, 1.0)
        assert len(server.bodies) == 1


def test_annotations_of_another_judge_do_not_count(store: AnswerStore) -> None:
    row = {"instruction": "q", "output_1": "a", "output_2": "b", "annotator": "alpaca_eval_gpt4", "preference": 2}
    pair = [Comparison("q", "a", "b")]
    assert preferences(pair, None, None, stored=[row]) == [1.0]
    with JudgeServer(prefers(lambda text: text == "a")) as server:
        assert preferences(pair, endpoint_at(server.url, "other", {}), store, stored=[row]) == [0.0]
    with pytest.raises(JudgeError, match="1 of 1 answers have no stored annotation"):
        preferences([Comparison("q", "a", "c")], None, None, stored=[row])


def test_configs(tmp_path: Path, store: AnswerStore) -> None:
    with pytest.raises(ConfigError, match="did you mean alpaca_eval_gpt4"):
        check_judge("alpaca_eval_gpt")
    with pytest.raises(ConfigError, match="anthropic_completions"):
        check_judge("claude")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "prompt.txt").write_text("Which is better for {instruction}? (a) {output_1} (b) {output_2}")
    (folder / "configs.yaml").write_text(
        "mine:\n  prompt_template: mine/prompt.txt\n  fn_completions: openai_completions\n"
        "  completions_kwargs: {model_name: any, max_tokens: 3, temperature: 0}\n"
        '  fn_completion_parser: regex_parser\n  completion_parser_kwargs: {outputs_to_match: {1: "a", 2: "b"}}\n'
    )
    with JudgeServer(lambda body: "a" if "(a) best" in body["prompt"] else "b") as server:
        pair = [Comparison("q", "best", "worse"), Comparison("r", "worse", "best")]
        assert preferences(pair, endpoint_at(server.url, "any", {}), store, config=str(folder)) == [0.0, 1.0]


def test_a_file_that_holds_no_annotations(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    for content in ("", "{}", json.dumps([{"instruction": "q"}])):
        path.write_text(content)
        with pytest.raises(DataError, match=r"annotations\.json"):
            read_annotations(path)
