"""Where data is looked for: what is given, the environment, the cache, and what is said where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_eval.data.location import LAYOUTS, data_folder, environment_variable
from peft_eval.errors import ConfigError, DataError

# A file by which each data set is known.
FILES = {
    "superni": "tasks/task1_made.json",
    "mmlu": "test/anatomy_test.csv",
    "gsm8k": "test.jsonl",
    "bbh": "bbh/navigate.json",
    "tydiqa": "tydiqa-goldp-v1.1-dev.json",
    "human_eval": "HumanEval.jsonl.gz",
    "alpaca_eval": "alpaca_eval.json",
    "toxigen": "hate_asian_1k.txt",
    "truthfulqa": "TruthfulQA.csv",
}


def put(folder: Path, name: str) -> Path:
    path = folder / FILES[name]
    path.parent.mkdir(parents=True)
    path.touch()
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_given_before_environment_before_cache(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("peft_eval.data.location.user_cache_path", lambda app: tmp_path / "cache")
    with pytest.raises(DataError) as caught:
        data_folder(name)
    for part in (
        str(tmp_path / "cache" / name),
        f"no {LAYOUTS[name].title} data here (the cache)",
        f"`peft-eval data get {name}`",
        f"`--metadata {name}=DIR` or {environment_variable(name)}=DIR",
    ):
        assert part in str(caught.value)
    cached = put(tmp_path / "cache" / name, name)
    assert data_folder(name) == cached
    monkeypatch.setenv(environment_variable(name), str(tmp_path / "named"))
    with pytest.raises(DataError, match=rf"\(from PEFT_EVAL_{name.upper()}\)"):
        data_folder(name)
    assert data_folder(name, cached) == cached
    named = put(tmp_path / "named", name)
    assert data_folder(name, "") == named
    with pytest.raises(DataError, match="as given"):
        data_folder(name, tmp_path / "nowhere")


def test_a_wrong_name():
    with pytest.raises(ConfigError, match="did you mean mmlu"):
        data_folder("mmmlu")
