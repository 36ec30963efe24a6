"""AlpacaEval in lm-eval: the published win rates, prompts, judges that fail, answers that are kept, no key anywhere."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable, make_table

from peft_eval.errors import ConfigError, DataError, JudgeError
from peft_eval.harness.baselines import CopyInput
from peft_eval.harness.saved_answers import SavedAnswers
from peft_eval.serving.server import Server
from tests.judge_server import FIRST, JudgeServer, prefers
from tests.judging.test_length_control import difficulties  # noqa: F401

pytest.importorskip("alpaca_eval", reason="the extra alpaca is not installed")

# PROTOCOLS D1: the instruction as it is, or as a user's turn of the TÜLU format (D0).
GOLDEN = {
    "tulu_alpaca_eval": "What are the names of some famous actors that started their careers on Broadway?",
    "tulu_alpaca_eval_chat": "<|user|>\nWhat are the names of some famous actors that started their careers on "
    "Broadway?\n<|assistant|>\n",
}
KEY = "sk-very-secret"


class Answers(CopyInput):
    """Answers what a function of the document says."""

    def __init__(self, answer: Any = lambda doc: doc["reference"]):
        super().__init__()
        self._function = answer
        self.requests: list[Any] = []

    def _answer(self, request: Any) -> str:
        self.requests.append(request)
        return self._function(request.doc)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def run(tasks_root: Path):
    def run(model: Any, metadata: dict[str, Any], task: str = "tulu_alpaca_eval", **options: Any) -> dict[str, Any]:
        manager = TaskManager(include_path=str(tasks_root), include_defaults=False, metadata=metadata)
        return simple_evaluate(model, tasks=[task], task_manager=manager, **options)

    return run


@pytest.fixture
def few(tmp_path: Path) -> dict[str, str]:
    """A folder with six instructions."""
    folder = tmp_path / "alpaca_eval"
    folder.mkdir()
    rows = [{"instruction": f"question {n}", "output": f"reference {n}", "dataset": "made"} for n in range(6)]
    (folder / "alpaca_eval.json").write_text(json.dumps(rows))
    return {"alpaca_eval": str(folder)}


def at(server: JudgeServer, model: str = "gpt-4") -> dict[str, str]:
    return {"judge_url": server.url, "judge_model": model}


@pytest.mark.parametrize(
    ("model", "win_rate", "standard_error", "length", "unparsed"),
    [("alpaca-7b", 26.4596, 1.5357, 396, 0), ("text_davinci_001", 15.1741, 1.2351, 296, 1)],
)
def test_published_win_rates_without_a_call(
    run, shared_data: Path, model: str, win_rate: float, standard_error: float, length: int, unparsed: int
) -> None:
    folder = shared_data / "alpaca_eval"
    stored = folder / "results" / model / "alpaca_eval_gpt4" / "annotations.json"
    answers = {row["instruction"]: row["output_2"] for row in json.loads(stored.read_text())}
    with JudgeServer(lambda body: (500, "not to be asked")) as server:
        metadata = {"alpaca_eval": str(folder), "alpaca_annotations": str(stored)} | at(server)
        results = run(Answers(lambda doc: answers[doc["instruction"]]), metadata)
        assert not server.bodies
    found = results["results"]["tulu_alpaca_eval"]
    assert found["win_rate,none"] == pytest.approx(win_rate, abs=5e-5)
    assert found["win_rate_stderr,none"] == pytest.approx(standard_error, abs=5e-5)
    assert int(found["avg_length,none"]) == length
    assert found["unparsed,none"] == unparsed / 805


def test_gold_and_empty_answers(run, shared_data: Path) -> None:
    data = {"alpaca_eval": str(shared_data / "alpaca_eval")}
    with JudgeServer(prefers(len)) as server:
        # The reference's own answers are 805 draws, which no judge is asked about: the suite's ceiling for a copy.
        gold = run(Answers(), data | at(server))["results"]["tulu_alpaca_eval"]
        assert (gold["win_rate,none"], gold["win_rate_stderr,none"], gold["unparsed,none"]) == (50.0, 0.0, 0.0)
        assert not server.bodies
        empty = run(Answers(lambda doc: ""), data | at(server))["results"]["tulu_alpaca_eval"]
        assert (empty["win_rate,none"], empty["avg_length,none"]) == (0.0, 0.0)
        assert len(server.bodies) == 805
        longer = Answers(lambda doc: doc["reference"] + " And more.")
        better = run(longer, data | at(server), "tulu_longform_chat", limit=40)
        assert better["groups"]["tulu_longform_chat"]["win_rate,none"] == 100.0
        assert len(server.bodies) == 805 + 40


@pytest.mark.parametrize("task", GOLDEN)
def test_golden_prompts_and_decoding(run, shared_data: Path, task: str) -> None:
    model = Answers()
    run(model, {"alpaca_eval": str(shared_data / "alpaca_eval")} | {"judge_model": "unused"}, task, predict_only=True)
    assert model.requests[0].args[0] == GOLDEN[task]
    assert model.requests[0].args[1] == {"until": [], "do_sample": False, "max_gen_toks": 8192}
    assert len(model.requests) == 805


def test_the_bootstrap_asks_nobody_again(run, few: dict[str, str]) -> None:
    with JudgeServer(prefers(len)) as server:
        results = run(Answers(lambda doc: "a long " * 9), few | at(server), bootstrap_iters=1000)
        assert len(server.bodies) == 6
    assert results["results"]["tulu_alpaca_eval"]["win_rate,none"] == 100.0
    samples = results["samples"]["tulu_alpaca_eval"]
    assert [sample["win_rate"] for sample in samples] == [100.0] * 6


def test_a_judge_that_says_nothing_useful_is_counted(run, few: dict[str, str]) -> None:
    with JudgeServer(lambda body: "blah" if "question 1" in body["messages"][1]["content"] else FIRST) as server:
        found = run(Answers(lambda doc: "x"), few | at(server))["results"]["tulu_alpaca_eval"]
    assert found["unparsed,none"] == pytest.approx(1 / 6)
    assert 0 <= found["win_rate,none"] <= 100
    with JudgeServer(lambda body: "blah") as server:
        results = run(Answers(lambda doc: "x"), few | at(server))
    assert results["results"]["tulu_alpaca_eval"]["unparsed,none"] == 1.0
    assert "win_rate,none" not in results["results"]["tulu_alpaca_eval"]
    assert "unparsed" in make_table(results)


def test_a_judge_that_dies_midway_costs_nothing_twice(run, few: dict[str, str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("peft_eval.judging.asking.ask.__kwdefaults__", {"concurrency": 1, "retries": 0})
    alive = [True]
    asked: list[str] = []

    def judge(body: dict[str, Any]) -> Any:
        if not alive[0]:
            return FIRST
        asked.append("x")
        return FIRST if len(asked) <= 4 else (500, "down")

    model = Answers(lambda doc: "my answer")
    with JudgeServer(judge) as server:
        metadata = few | at(server) | {"judge_concurrency": "1"}
        with pytest.raises(JudgeError, match="--model saved-answers --model_args path=") as caught:
            run(model, metadata)
        before = len(server.bodies)
        alive[0] = False
        kept = Path(str(caught.value).rpartition("path=")[2].rstrip(")"))
        results = run(SavedAnswers(path=str(kept)), metadata)
        assert len(server.bodies) - before == 2
    assert results["results"]["tulu_alpaca_eval"]["unparsed,none"] == 0
    assert len(model.requests) == 6


def test_a_judge_of_ours_is_served_only_if_an_answer_is_missing(
    run, few: dict[str, str], tmp_path, monkeypatch
) -> None:
    served: list[str] = []
    (tmp_path / "judge").mkdir()

    @contextlib.contextmanager
    def serve(model: str, log: Path, arguments: str) -> Iterator[Server]:
        with JudgeServer(prefers(len)) as server:
            served.append(model)
            yield Server(url=server.url, model="judge", key="", log=log)

    monkeypatch.setattr("peft_eval.serving.server.serve", serve)
    metadata = few | {"judge_model": str(tmp_path / "judge")}
    for expected in (1, 1):
        results = run(Answers(lambda doc: "a longer answer"), metadata)
        assert results["results"]["tulu_alpaca_eval"]["win_rate,none"] == 100.0
        assert len(served) == expected
    run(Answers(lambda doc: "another, longer answer"), metadata)
    assert len(served) == 2


def test_a_wrong_key_is_known_before_the_first_answer(run, few: dict[str, str], monkeypatch) -> None:
    monkeypatch.setenv("PEFT_EVAL_JUDGE_KEY", "wrong")
    model = Answers()
    with JudgeServer(lambda body: FIRST, key=KEY) as server, pytest.raises(JudgeError, match="401"):
        run(model, few | at(server))
    assert not model.requests


def test_the_key_is_in_no_result_sample_or_cache(run, few: dict[str, str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PEFT_EVAL_JUDGE_KEY", KEY)
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    with JudgeServer(lambda body: FIRST, key=KEY) as server:
        results = run(Answers(lambda doc: "x"), few | at(server), evaluation_tracker=tracker)
        assert server.keys == [f"Bearer {KEY}"] * 6
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    tracker.save_results_samples(task_name="tulu_alpaca_eval", samples=samples["tulu_alpaca_eval"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("answers.sqlite" in path.name for path in files) and any("samples_" in path.name for path in files)
    assert all(KEY.encode() not in path.read_bytes() for path in files)
    assert KEY not in json.dumps(results, default=handle_non_serializable)
    with pytest.raises(ConfigError, match="PEFT_EVAL_JUDGE_KEY"):
        run(Answers(), few | at(server) | {"judge_key": KEY})


def test_predict_only_then_judge_later(run, few: dict[str, str], tmp_path: Path) -> None:
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    model = Answers(lambda doc: f"line one\u2028of {doc['id']}\n")
    results = run(model, few, "tulu_alpaca_eval_chat", predict_only=True, evaluation_tracker=tracker)
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    tracker.save_results_samples(task_name="tulu_alpaca_eval_chat", samples=samples["tulu_alpaca_eval_chat"])
    with JudgeServer(prefers(lambda text: "line one" in text)) as server:
        judged = run(SavedAnswers(path=str(tmp_path / "out")), few | at(server), "tulu_alpaca_eval_chat")
    assert judged["results"]["tulu_alpaca_eval_chat"]["win_rate,none"] == 100.0
    sample = judged["samples"]["tulu_alpaca_eval_chat"][3]
    assert sample["filtered_resps"] == ["line one\u2028of 3\n"]


def test_length_control_where_the_difficulties_are(run, tmp_path: Path, difficulties: Path) -> None:  # noqa: F811
    folder = tmp_path / "whole"
    folder.mkdir()
    rows = [{"instruction": f"q{n}", "output": "word " * (n % 7 + 1)} for n in range(300)]
    (folder / "alpaca_eval.json").write_text(json.dumps(rows))
    shutil.copy(difficulties, folder / "df_gamed.csv")
    model = Answers(lambda doc: "word " * (doc["id"] % 5 + 3))
    with JudgeServer(prefers(len)) as server:
        metadata = {"alpaca_eval": str(folder)} | at(server)
        found = run(model, metadata)["results"]["tulu_alpaca_eval"]
        part = run(model, metadata, limit=20)["results"]["tulu_alpaca_eval"]
    assert abs(found["length_controlled_win_rate,none"] - 50) < abs(found["win_rate,none"] - 50)
    assert "length_controlled_win_rate,none" not in part and "win_rate,none" in part


def test_bad_input(run, few: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no judge is named.*--predict_only"):
        run(Answers(), few)
    with pytest.raises(ConfigError, match="judge_args"):
        run(Answers(), few | {"judge_url": "http://x/v1", "judge_model": "m", "judge_args": "--dtype float32"})
    with pytest.raises(ConfigError, match="judge_concurrency"):
        run(Answers(), few | {"judge_concurrency": "many"})
    with pytest.raises(DataError, match="no AlpacaEval data here"):
        run(Answers(), {"alpaca_eval": str(tmp_path)})
    file = Path(few["alpaca_eval"]) / "alpaca_eval.json"
    for content, problem in (
        ("[]", "not a list"),
        ('[{"instruction": "q", "answer": "a"}]', "row 0 has no text"),
        ('[{"instruction": "q", "output": "a"}, {"instruction": "q", "output": "b"}]', "comes twice"),
    ):
        file.write_text(content)
        with pytest.raises(DataError, match=problem):
            run(Answers(), few)


def test_another_reference(run, few: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps([{"instruction": "only", "output": "this"}]))
    with JudgeServer(prefers(len)) as server:
        results = run(Answers(lambda doc: "longer"), {"alpaca_reference": str(tmp_path / "other.json")} | at(server))
    assert results["results"]["tulu_alpaca_eval"]["sample_len"] == 1
