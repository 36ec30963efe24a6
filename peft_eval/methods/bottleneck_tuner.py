"""Bottleneck adapters as a peft tuner: o + s · (up(act(down(h))) beside a sublayer of output o.

h is o itself (sequential: arXiv 1902.00751, section 2.1, the inner skip connection being the o that is added) or the
sublayer's input (parallel: arXiv 2110.04366, section 3.3 and table 1). down is (size, hidden), up is (hidden, size),
both with biases. A gate, if there is one, multiplies what is added by sigmoid(w · h + b), one number a token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from peft import PeftConfig
from torch import nn
from transformers.activations import ACT2FN

from peft_eval.errors import RouteError
from peft_eval.methods.sublayer_tuner import SublayerAdapter, SublayerTuner
from peft_eval.methods.tuner import Block

_BERT_STD = 0.02
_HOULSBY_STD = 0.01


@dataclass
class BottleneckConfig(PeftConfig):
    """A bottleneck beside each sublayer of the chosen kinds.

    Attributes:
        size: width of the bottleneck.
        reads: whether h is the sublayer's output or its input.
        positions: the kinds of sublayers, `attention` and `ffn`.
        activation: a key of `transformers.activations.ACT2FN`.
        dropout: on what is added, while training.
        scale: the factor s, or `learned`: a number a bottleneck, 1 at first.
        init: `bert`, `mam` or `houlsby`, see `start`.
        gated: whether a gate multiplies what is added.
        target_modules: the sublayers' last modules; found in the base if None.
        entries: last module -> first module, by the ends of their names, where they differ and h is the input.
    """

    size: int = 64
    reads: Literal["output", "input"] = "output"
    positions: list[str] = field(default_factory=lambda: ["attention", "ffn"])
    activation: str = "silu"
    dropout: float = 0.0
    scale: float | str = 1.0
    init: str = "bert"
    gated: bool = False
    target_modules: list[str] | None = None
    entries: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "BOTTLENECK"  # type: ignore[assignment]  # peft's enum is closed, its tables are not


def start(linear: nn.Linear, init: str, *, is_up: bool) -> None:
    """Draws a projection's first weights; biases are zero.

    `bert`: N(0, 0.02²), the start nearly of the base. `mam`: down Kaiming uniform, up zero, the start of the base
    (arXiv 2110.04366). `houlsby`: N(0, 0.01²) cut at two standard deviations (arXiv 1902.00751, section 3.6).
    """
    if init == "bert":
        nn.init.normal_(linear.weight, std=_BERT_STD)
    elif init == "houlsby":
        nn.init.trunc_normal_(linear.weight, std=_HOULSBY_STD, a=-2 * _HOULSBY_STD, b=2 * _HOULSBY_STD)
    elif is_up:
        nn.init.zeros_(linear.weight)
    else:
        nn.init.kaiming_uniform_(linear.weight, a=math.sqrt(5))
    nn.init.zeros_(linear.bias)


class BottleneckLayer(SublayerAdapter):
    """The end of a sublayer with its bottlenecks."""

    method = "a bottleneck adapter"
    adapter_layer_names: tuple[str, ...] = ("bottleneck_down", "bottleneck_up", "bottleneck_scale", "bottleneck_gate")
    other_param_names: tuple[str, ...] = ("configs",)

    def __init__(self, base_layer: nn.Module, entry: nn.Module | None = None):
        super().__init__(base_layer, entry)
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_scale = nn.ParameterDict()
        self.bottleneck_gate = nn.ModuleDict()
        self.configs: dict[str, BottleneckConfig] = {}

    def add_adapter(self, name: str, config: BottleneckConfig, hidden: int) -> None:
        """Adds a bottleneck at its start."""
        down, up = nn.Linear(hidden, config.size), nn.Linear(config.size, hidden)
        start(down, config.init, is_up=False)
        start(up, config.init, is_up=True)
        self._put(name, config, hidden, down, up)

    def _put(self, name: str, config: Any, hidden: int, down: nn.Module, up: nn.Module) -> None:
        self.configs[name] = config
        self.bottleneck_down[name], self.bottleneck_up[name] = down, up
        if config.scale == "learned":
            self.bottleneck_scale[name] = nn.Parameter(torch.ones(1))
        if config.gated:
            self.bottleneck_gate[name] = gate = nn.Linear(hidden, 1)
            start(gate, "bert", is_up=False)

    def down(self, adapter: str, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the bottleneck before its activation: (..., hidden) -> (..., size)."""
        return self.bottleneck_down[adapter](hidden)

    def up(self, adapter: str, inner: torch.Tensor) -> torch.Tensor:
        """Returns the bottleneck's output: (..., size) -> (..., hidden)."""
        return self.bottleneck_up[adapter](inner)

    def change(self, adapter: str, output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Returns s · gate(h) · up(act(down(h)))."""
        config = self.configs[adapter]
        dtype = dtype_of(self.bottleneck_down[adapter])
        hidden = self._cast_input_dtype(output if config.reads == "output" else given, dtype)
        added = self.up(adapter, ACT2FN[config.activation](self.down(adapter, hidden)))
        scale = self.bottleneck_scale.get(adapter, config.scale)
        added = nn.functional.dropout(added * scale, config.dropout, self.training)
        if adapter in self.bottleneck_gate:
            added = added * self.bottleneck_gate[adapter](hidden).sigmoid()
        return added


def dtype_of(module: nn.Module) -> torch.dtype:
    """Returns the dtype of a module's weights."""
    return next(module.parameters()).dtype


class BottleneckModel(SublayerTuner):
    """A base with bottlenecks."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        super()._prepare_model(peft_config, model)
        if peft_config.reads == "input":
            peft_config.entries = {
                _leaf(sublayer.exit): _leaf(sublayer.entry)
                for sublayer in self._sublayers.values()
                if sublayer.entry != sublayer.exit
            }

    def add(self, layer: BottleneckLayer, adapter_name: str, config: BottleneckConfig) -> None:
        """Adds a bottleneck, at its start, to a wrapper."""
        layer.add_adapter(adapter_name, config, self.hidden_size)


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def blocks(adapter_config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[Block]:
    """Returns an adapter's bottlenecks in dense form.

    Args:
        adapter_config: the content of `adapter_config.json`.
        tensors: the adapter's tensors by their names in the file.

    Raises:
        RouteError: it is gated.
    """
    if adapter_config.get("gated"):
        raise RouteError("a gate depends on the input, so a gated bottleneck has no dense form")
    found = []
    for name, down in tensors.items():
        if not name.endswith(".bottleneck_down.weight"):
            continue
        stem = name.removesuffix("bottleneck_down.weight")
        found.append(
            dense_block(
                stem,
                adapter_config,
                down=down,
                up=tensors[f"{stem}bottleneck_up.weight"],
                down_bias=tensors[f"{stem}bottleneck_down.bias"],
                up_bias=tensors[f"{stem}bottleneck_up.bias"],
                learned_scale=tensors.get(f"{stem}bottleneck_scale"),
            )
        )
    return found


def dense_block(
    stem: str,
    adapter_config: dict[str, Any],
    *,
    down: torch.Tensor,
    up: torch.Tensor,
    down_bias: torch.Tensor,
    up_bias: torch.Tensor,
    learned_scale: torch.Tensor | None,
) -> Block:
    """Returns one bottleneck's dense form; `stem` is what precedes its tensors' own names."""
    module = stem.removeprefix("base_model.model.").removesuffix(".")
    layer, _, end = module.rpartition(".")
    entry = (adapter_config.get("entries") or {}).get(end)
    return Block(
        module=module,
        reads=adapter_config["reads"],
        down=down,
        up=up,
        down_bias=down_bias,
        up_bias=up_bias,
        activation=adapter_config["activation"],
        scale=float(adapter_config["scale"]) if learned_scale is None else float(learned_scale),
        entry=f"{layer}.{entry}" if entry else None,
    )
