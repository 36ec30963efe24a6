"""`--model saved-answers`: forms of files, repeated prompts, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from peft_eval.errors import ConfigError, DataError, RouteError
from peft_eval.harness.saved_answers import SavedAnswers, keep_answers, read_answers


def request(prompt: str) -> Instance:
    return Instance("generate_until", {}, (prompt, {}), 0, metadata=("task", 0, 1))


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sample(prompt: str, *answers: str) -> dict:
    return {"arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {}}}, "resps": [list(answers)]}


def test_answers_by_prompt_in_any_order(tmp_path: Path) -> None:
    model = SavedAnswers(path=str(write(tmp_path / "a.jsonl", sample("p", "1", "2"), sample("q", "3"))))
    assert model.generate_until([request(prompt) for prompt in ("q", "p", "p")]) == ["3", "1", "2"]


def test_the_newest_run_of_a_folder_counts(tmp_path: Path) -> None:
    write(tmp_path / "samples_task_2026-01-02T00.jsonl", sample("p", "new"))
    write(tmp_path / "samples_task_2026-01-01T00.jsonl", sample("p", "old"))
    write(tmp_path / "samples_other_2026-01-01T00.jsonl", sample("q", "other"))
    assert read_answers(tmp_path) == {"p": ["new"], "q": ["other"]}


def test_other_forms(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    outputs = tmp_path / "model_outputs.json"
    outputs.write_text(json.dumps([{"instruction": "i", "output": "o", "generator": "g"}]))
    assert read_answers(outputs) == {"i": ["o"]}
    odd = "a\u2028b\r\n\x85"
    assert read_answers(keep_answers("task", [(odd, [odd, ""])])) == {odd: [odd, ""]}
    choice = {"arguments": {"gen_args_0": {"arg_0": "p", "arg_1": " yes"}}, "resps": [[["-1.0", "False"]]]}
    assert read_answers(write(tmp_path / "mc.jsonl", choice)) == {}


def test_what_it_refuses(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", sample("p", "1"))
    with pytest.raises(DataError, match=r"no answer to 2 of 3 prompts.*of task: 'p'"):
        SavedAnswers(path=str(path)).generate_until([request(prompt) for prompt in ("p", "p", "q")])
    with pytest.raises(RouteError, match="log-likelihoods"):
        SavedAnswers(path=str(path)).loglikelihood([request("p")])
    with pytest.raises(ConfigError, match="path="):
        SavedAnswers()
    with pytest.raises(ConfigError, match="'pth'"):
        SavedAnswers(pth="x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").write_text("{")
    (tmp_path / "other").write_text('{"a": 1}')
    for name in ("empty", "broken", "other", "absent"):
        with pytest.raises(DataError, match=name):
            SavedAnswers(path=str(tmp_path / name))


def test_lm_eval_knows_it() -> None:
    from peft_eval.harness import extensions

    extensions.extend_models(None)  # type: ignore[arg-type]
    assert get_model("saved-answers") is SavedAnswers
