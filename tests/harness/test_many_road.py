"""The whole road of many checkpoints, an engine played by transformers and peft at its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest

from peft_eval.harness.found_once import found_once
from peft_eval.harness.many import Order, evaluate_many
from peft_eval.methods.bottleneck_tuner import BottleneckConfig
from peft_eval.methods.tuner import register_all
from peft_eval.serving.live_engine import LiveEngine
from tests.adapters import write_adapter
from tests.harness.played_engine import PlayedEngine
from tests.harness.test_hf_road import LORA, TITLES
from tests.tiny import tiny_llama

pytest.importorskip("vllm", reason="vLLM is not installed")


@pytest.fixture
def swaps(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Plays the engine; while the last of the list is False, it keeps the weights that it has."""
    wanted = [True]
    now: dict[str, Any] = {}
    take = LiveEngine.take

    def remember_and_take(self: LiveEngine, **arguments: Any) -> Any:
        now["arguments"] = arguments
        return take(self, **arguments)

    def start(self: LiveEngine, arguments: dict[str, Any], loading: Any) -> PlayedEngine:
        return PlayedEngine(arguments)

    def swap(self: LiveEngine, model: str, loading: Any) -> int:
        if wanted[-1]:
            self._engine.put(now["arguments"])
        return 1

    def close(self: LiveEngine) -> None:
        self._engine = self._kind = None

    for name, played in {"take": remember_and_take, "_start": start, "_swap": swap, "close": close}.items():
        monkeypatch.setattr(LiveEngine, name, played)
    return wanted


def block(outcome: Any) -> dict[str, Any]:
    found: dict[str, Any] = outcome.results["config"]["peft_eval"]
    return found


def test_each_is_proven_answers_return_and_stale_weights_are_caught(
    swaps: list[bool], tiny_superni: Any, tmp_path: Path
) -> None:
    register_all()
    tiny_superni.add(TITLES, instances=3)
    base = tiny_llama(tmp_path / "base")
    configs = {"blocks": BottleneckConfig(size=8), "prompt": peft.PromptTuningConfig(num_virtual_tokens=5),
               "lora": peft.LoraConfig(**LORA)}  # fmt: skip
    for name, config in configs.items():
        write_adapter(base, tmp_path / name, config, scale=0.2)

    def evaluate(output: str) -> list[Any]:
        order = Order(
            [str(tmp_path / name) for name in configs], tasks="superni_unseen_def_title_generation",
            output=tmp_path / output, model_args=["enforce_eager=True", "dtype=float32"],
            metadata=[f"superni={tiny_superni.folder}", "superni_partial=true"], answers=tmp_path / "answers.sqlite",
        )  # fmt: skip
        return evaluate_many(order, say=lambda line: None)

    with found_once():  # its index of tasks serves all three
        first, again = evaluate("first"), evaluate("again")
        swaps.append(False)
        stale = evaluate("stale")
    assert [outcome.error for outcome in first] == [None] * 4
    assert [block(outcome)["route"] for outcome in first] == ["base", "wrapped", "prompt", "merge"]
    assert [block(outcome)["engine"]["how"] for outcome in first] == ["start", "swap", "swap", "swap"]
    assert all(block(outcome)["answers"] == {"asked": 3, "remembered": 0} for outcome in first)
    for outcome in first[1:]:
        proof = block(outcome)["engine"]["proof"]
        assert proof["engine_to_checkpoint"]["mean"] < 1e-5 < 0.1 < proof["engine_to_last"]["mean"]

    assert all(block(outcome)["answers"] == {"asked": 0, "remembered": 3} for outcome in again)
    assert [outcome.results["results"] for outcome in again] == [outcome.results["results"] for outcome in first]
    samples = [path.read_text().splitlines() for path in (tmp_path / "first").rglob("samples_*.jsonl")]
    assert len({tuple(json.loads(line)["resps"][0][0] for line in lines) for lines in samples}) == len(samples) == 4

    assert stale[0].error is None
    assert all("the engine serves the base" in str(outcome.error) for outcome in stale[1:])
