"""Blocks beside modules of a model that stands in for vLLM's; real engines are in test_served_routes.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peft_eval.errors import RouteError
from peft_eval.methods.tuner import Block, register_all
from peft_eval.serving.blocks import read_blocks
from tests.adapters import write_adapter
from tests.tiny import tiny_llama

pytest.importorskip("vllm", reason="vLLM is not installed")
HIDDEN = 6


class Attention(nn.Linear):
    """Called as vLLM calls one; returns a pair, as its linear layers do, and writes into what it is given."""

    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> tuple[torch.Tensor, None]:
        result = super().forward(hidden_states)
        hidden_states.zero_()
        return result, None


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Attention(HIDDEN, HIDDEN)
        self.fc1 = nn.Linear(HIDDEN, 2 * HIDDEN)
        self.fc2 = nn.Linear(2 * HIDDEN, HIDDEN)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        attended, _ = self.self_attn(torch.arange(len(x)), hidden_states=x.clone())
        return attended, self.fc2(self.fc1(x))


def block(module: str, **changes: Any) -> Block:
    torch.manual_seed(len(module))
    down, up, down_bias, up_bias = (torch.randn(shape) for shape in ((3, HIDDEN), (HIDDEN, 3), (3,), (HIDDEN,)))
    return replace(Block(module, "output", down, up, down_bias, up_bias, "silu", 2.5), **changes)


def expected(one: Block, h: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    return output + one.scale * (nn.functional.silu(h @ one.down.T + one.down_bias) @ one.up.T + one.up_bias)


def test_blocks_add_what_their_formula_says_and_come_off_again() -> None:
    from peft_eval.serving.wrapping import place_blocks, remove_blocks

    model, x = Layers(), torch.randn(4, HIDDEN)
    attended, fed = model(x)
    names = {name for name, _ in model.named_parameters()}
    classes = [type(module) for module in model.modules()]

    after_attention, beside_ffn = block("self_attn"), block("fc2", reads="input", entry="fc1")
    assert place_blocks(model, [after_attention, beside_ffn], torch.float32) == 2
    found = model(x)
    assert torch.allclose(found[0], expected(after_attention, attended, attended), atol=1e-5)
    assert torch.allclose(found[1], expected(beside_ffn, x, fed), atol=1e-5)
    assert {name for name, _ in model.named_parameters()} == names  # what vLLM's weight loading goes by

    beside_attention = block("self_attn", reads="input")
    assert place_blocks(model, [beside_attention], torch.float32) == 1
    found = model(x)
    assert torch.allclose(found[0], expected(beside_attention, x, attended), atol=1e-5)
    assert torch.equal(found[1], fed)

    remove_blocks(model)
    assert all(torch.equal(a, b) for a, b in zip(model(x), (attended, fed), strict=True))
    assert [type(module) for module in model.modules()] == classes


def test_a_block_of_the_same_structure_takes_over_the_memory() -> None:
    from peft_eval.serving.wrapping import place_blocks

    model, x = Layers(), torch.randn(4, HIDDEN)
    attended, _ = model(x)
    place_blocks(model, [block("self_attn")], torch.float32)
    memory = model.self_attn.peft_eval_block.down.data_ptr()
    other = block("self_attn", down=torch.randn(3, HIDDEN), scale=0.5)
    place_blocks(model, [other], torch.float32)
    assert model.self_attn.peft_eval_block.down.data_ptr() == memory
    assert torch.allclose(model(x)[0], expected(other, attended, attended), atol=1e-5)


def test_a_module_that_is_not_there_is_named() -> None:
    from peft_eval.serving.wrapping import place_blocks

    with pytest.raises(RouteError, match="vLLM's Layers has no module mlp"):
        place_blocks(Layers(), [block("mlp")], torch.float32)


def test_blocks_are_read_from_an_adapter(tmp_path: Path) -> None:
    from peft_eval.methods.bottleneck_tuner import BottleneckConfig

    register_all()
    base = tiny_llama(tmp_path / "base")
    write_adapter(base, tmp_path / "adapter", BottleneckConfig(size=4, scale=3.0), scale=0.2)
    found = read_blocks(tmp_path / "adapter")
    assert {one.module for one in found} == {
        f"model.layers.{i}.{part}" for i in (0, 1) for part in ("self_attn", "mlp")
    }
    assert {(one.scale, tuple(one.down.shape), one.reads) for one in found} == {(3.0, (4, 64), "output")}
    write_adapter(base, tmp_path / "gated", BottleneckConfig(size=4, gated=True), scale=0.2)
    with pytest.raises(RouteError, match="gate depends on the input"):
        read_blocks(tmp_path / "gated")
