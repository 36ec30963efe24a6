"""One engine, one checkpoint after another: each answers as peft does, and the base's answers return exactly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from peft_eval.errors import ProbeError
from peft_eval.methods.bottleneck_tuner import BottleneckConfig
from peft_eval.methods.tuner import register_all
from peft_eval.serving.agreement import greedy_agreement
from peft_eval.serving.engine import cpu_defaults
from peft_eval.serving.live_engine import LiveEngine, engine_kind
from peft_eval.serving.loader import with_route
from peft_eval.serving.route import Route, choose_route
from peft_eval.serving.swap_probe import expected_of_folder, prove_swap
from peft_eval.serving.virtual_tokens import with_prompt
from tests.adapters import write_adapter
from tests.tiny import tiny_llama

pytest.importorskip("vllm", reason="vLLM is not installed")
PROMPTS = [[11 + (7 * i * j + i) % 300 for j in range(3 + 2 * i)] for i in range(6)]
VOCABULARY = 384
ADAPTERS = {
    "lora": peft.LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"),
    "lora_qv": peft.LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"]),
    "bottleneck": BottleneckConfig(size=8),
    "wider_bottleneck": BottleneckConfig(size=16),
    "prompt": peft.PromptTuningConfig(num_virtual_tokens=7),
    "longer_prompt": peft.PromptTuningConfig(num_virtual_tokens=9),
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    base = tiny_llama(folder / "base")
    for seed, (name, config) in enumerate(ADAPTERS.items()):
        write_adapter(base, folder / name, config, scale=0.2, seed=seed)
    tiny_llama(folder / "full", seed=9)
    tiny_llama(folder / "deeper", layers=3)
    return folder


def route_of(checkpoints: Path, name: str) -> Route | None:
    return None if name in ("base", "full", "deeper") else choose_route(str(checkpoints / name))


def arguments_of(checkpoints: Path, name: str, **options: Any) -> dict[str, Any]:
    route = route_of(checkpoints, name)
    model = str(route.model_folder if route else checkpoints / name)
    given = {"model": model, "enforce_eager": True, "dtype": "float32", "seed": 1234, **options}
    return with_route(cpu_defaults(model, given), route.engine if route else {})


def test_what_can_share_an_engine_is_of_one_kind(checkpoints: Path) -> None:
    def kind(name: str, **options: Any) -> Any:
        return engine_kind(arguments_of(checkpoints, name, **options))

    assert all(kind(name) == kind("base") for name in [*ADAPTERS, "full"])
    assert kind("deeper") != kind("base")
    assert kind("base", dtype="bfloat16") != kind("base")
    compiled = {name: kind(name, enforce_eager=False) for name in ["base", *ADAPTERS]}
    assert compiled["lora"] == compiled["base"] == compiled["prompt"]
    assert compiled["bottleneck"] not in (compiled["base"], compiled["wider_bottleneck"])


class Served:
    """An engine that the tests take turns in."""

    def __init__(self, checkpoints: Path, **options: Any):
        self.checkpoints, self.options = checkpoints, options
        self.live = LiveEngine(virtual_rows=9)
        self.engine: Any = None

    def put(self, name: str) -> None:
        self.engine = self.live.take(**arguments_of(self.checkpoints, name, **self.options))

    def answers(self, name: str) -> list[list[int]]:
        from vllm import SamplingParams, TokensPrompt

        route = route_of(self.checkpoints, name)
        sampling = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
        ids = with_prompt(PROMPTS, route.prompt_ids if route else ())
        outputs = self.engine.generate([TokensPrompt(prompt_token_ids=one) for one in ids], sampling, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]

    def reference(self, name: str) -> Any:
        register_all()
        route = route_of(self.checkpoints, name)
        model = AutoModelForCausalLM.from_pretrained(
            route.model_folder if route else self.checkpoints / name, dtype=torch.float32
        )
        return peft.PeftModel.from_pretrained(model, str(self.checkpoints / name)).eval() if route else model.eval()

    def check(self, name: str) -> list[list[int]]:
        self.put(name)
        found = self.answers(name)
        assert greedy_agreement(self.reference(name), PROMPTS, found, vocabulary=VOCABULARY).holds, name
        return found


@pytest.fixture(scope="module")
def served(checkpoints: Path) -> Iterator[Served]:
    made = Served(checkpoints)
    yield made
    made.live.close()


@pytest.mark.vllm
def test_every_checkpoint_answers_as_peft_does_whatever_was_there_before(served: Served) -> None:
    base = served.check("base")
    order = ["lora", "lora_qv", "bottleneck", "prompt", "wider_bottleneck", "full", "lora", "longer_prompt", "base"]
    found = {name: served.check(name) for name in order}
    assert found["base"] == base
    assert [change.how for change in served.live.changes] == ["start", *["swap"] * len(order)]
    changes = dict(zip(["base", *order], served.live.changes, strict=True))
    assert changes["full"].modules is None  # all of them
    assert changes["lora_qv"].modules == 2 * 4  # those that the LoRA before it changed


@pytest.mark.vllm
def test_an_engine_that_kept_the_last_weights_is_caught(served: Served, checkpoints: Path) -> None:
    expected = {name: expected_of_folder(checkpoints / name, checkpoints / name) for name in ("base", "full")}
    served.put("base")
    found = prove_swap(served.engine, expected["base"], expected["full"], "base")
    assert found["engine_to_checkpoint"]["mean"] < 1e-4 < found["engine_to_last"]["mean"]
    with pytest.raises(ProbeError, match="still serves the checkpoint before"):
        prove_swap(served.engine, expected["full"], expected["base"], "full")
