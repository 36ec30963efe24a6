"""What holds for every installed method: its start, whose weights it trains, that it learns, saves and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from peft_eval import plugins
from peft_eval.checkpoint.writing import load_adapter_weights, save_adapter
from peft_eval.data.source import Selection
from tests.adapters import prepared_adapter
from tests.small_options import small_options
from tests.tiny import tiny_llama

METHODS = plugins.methods()
ADAPTERS = [name for name, method in METHODS.items() if method.kind == "adapter"]
STEPS = 8
ROW_TOKENS = 16
# Methods of ours whose papers do not start from the base: small random matrices on both sides, or random prefixes.
OFF_BASE = {"adapter", "houlsby", "pfeiffer", "mam", "prefix", "prefix_flat", "unipelt"}
# Weights that the last layer has for a layer after it: no gradient reaches them.
UNUSED = {"shadow": "shadow_"}


def _rows() -> torch.Tensor:
    """Returns the ends of eight examples of the mini corpus, (8, ROW_TOKENS): a token for each byte."""
    examples = plugins.datasets()["mini"].load(None, Selection(tasks=8, instances_per_task=1)).examples
    ends = [(one.source + one.target).encode()[-ROW_TOKENS:] for one in examples]
    return torch.tensor([[3 + byte for byte in end] for end in ends])


ROWS = _rows()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), tied=False)


def _logits(model: Any) -> torch.Tensor:
    return model(input_ids=ROWS, attention_mask=torch.ones_like(ROWS)).logits[:, -ROWS.shape[1] :]


def _loss(method: Any, model: Any) -> torch.Tensor:
    loss = torch.nn.functional.cross_entropy(_logits(model)[:, :-1].flatten(0, 1), ROWS[:, 1:].flatten())
    penalty = method.penalty(model) if hasattr(method, "penalty") else None
    return loss if penalty is None else loss + penalty


def _trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def _optimizer(method: Any, model: Any) -> torch.optim.Optimizer:
    settings = {"learning_rate": method.training_defaults["learning_rate"], "weight_decay": 0.0}
    own = None
    if hasattr(method, "optimizer"):
        options = method.options(**small_options(method))
        own = method.optimizer(model, options, **settings)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return own or torch.optim.AdamW(weights, lr=settings["learning_rate"], weight_decay=0.0)


def _step(method: Any, model: Any, optimizer: torch.optim.Optimizer, number: int) -> float:
    loss = _loss(method, model)
    loss.backward()
    optimizer.step()
    if hasattr(method, "after_step"):
        method.after_step(model, number)
    optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("name", ADAPTERS)
def test_starts_learns_saves_and_goes_on(base: Path, tmp_path: Path, name: str) -> None:
    method = METHODS[name]
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    start = _logits(plain).detach()
    model = prepared_adapter(method, base, scale=0.0).eval()

    with torch.no_grad():
        distance = ((_logits(model) - start).abs().max() / start.abs().max()).item()
    preset = getattr(method, "preset", None)
    off_base = preset.start if preset else name in OFF_BASE
    assert (distance > 1e-5) == bool(off_base), f"the first step is {distance:.1e} off the base"

    shift = _trained(prepared_adapter(method, base, scale=0.01))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if key in shift:
                weight.copy_(shift[key])
    _loss(method, model).backward()
    own = set(_trained(model))
    reached = {key for key, weight in model.named_parameters() if weight.grad is not None}
    assert reached <= own and own
    assert not [key for key in own - reached if UNUSED.get(name, "nothing") not in key]
    base_names = {key for key, _ in plain.named_parameters()}
    assert not [key for key in own if key.removeprefix("base_model.model.") in base_names] or name == "full"

    model = prepared_adapter(method, base, scale=0.0).eval()
    optimizer = _optimizer(method, model)
    losses = [_step(method, model, optimizer, number + 1) for number in range(STEPS)]
    assert losses[-1] < losses[0], losses

    save_adapter(model, tmp_path, in_training=True)
    other = prepared_adapter(method, base, scale=0.02, seed=3).eval()
    load_adapter_weights(other, tmp_path)
    if hasattr(method, "run_state") and (state := method.run_state(model)):
        method.load_run_state(other, state)
    resumed = _trained(other)
    assert all(torch.equal(weight, resumed[key]) for key, weight in _trained(model).items())


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_checkpoint_belongs_to_the_untouched_base(base: Path, tmp_path: Path, name: str) -> None:
    model = prepared_adapter(METHODS[name], base, scale=0.02).eval()
    with torch.no_grad():
        expected = _logits(model)
    save_adapter(model, tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(tmp_path / "adapter_model.safetensors").values())
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path)).eval()
    with torch.no_grad():
        found = _logits(loaded)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
