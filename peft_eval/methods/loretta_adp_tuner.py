"""LoRETTA_adp as a peft tuner: a bottleneck after a sublayer with tensor trains for its projections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from torch import nn
from torch.nn import functional
from transformers.activations import ACT2FN

from peft_eval.methods.bottleneck_tuner import dense_block
from peft_eval.methods.sublayer_tuner import SublayerAdapter, SublayerTuner
from peft_eval.methods.tensor_train import TensorTrain, dense
from peft_eval.methods.tuner import Block


@dataclass
class LorettaAdpConfig(PeftConfig):
    """A bottleneck in tensor-train form after each sublayer of the chosen kinds.

    Attributes:
        size: width of the bottleneck.
        tensor_rank: the largest rank between two cores.
        activation: a key of `transformers.activations.ACT2FN`.
        dropout: on what the bottleneck reads, while training.
        positions: the kinds of sublayers, `attention` and `ffn`.
        scale: the factor of what is added.
        zero_start: whether it starts at adding nothing.
        target_modules: the sublayers' last modules; found in the base if None.
        reads: what a bottleneck reads, for its dense form.
    """

    size: int = 64
    tensor_rank: int = 5
    activation: str = "tanh"
    dropout: float = 0.0
    positions: list[str] = field(default_factory=lambda: ["attention", "ffn"])
    scale: float = 1.0
    zero_start: bool = True
    target_modules: list[str] | None = None
    reads: str = "output"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "LORETTA_ADP"  # type: ignore[assignment]  # peft's enum is closed, its tables are not


class TensorizedLinear(TensorTrain):
    """A linear layer with its weight (outputs, inputs) as a tensor train.

    Args:
        inputs: features read.
        outputs: features given.
        rank: the largest rank between two cores.
        zero_bias: whether the bias starts at zero, else U(-1/√outputs, 1/√outputs).
        zero: whether the weight starts at zero.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, *, zero_bias: bool, zero: bool = False):
        super().__init__(inputs, outputs, rank, zero=zero)
        self.bias = nn.Parameter(torch.zeros(outputs))
        if not zero_bias:
            nn.init.uniform_(self.bias, -(outputs**-0.5), outputs**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns x Wᵀ + b: (..., outputs)."""
        return functional.linear(x, self.dense(), self.bias)


class LorettaAdpLayer(SublayerAdapter):
    """A sublayer's last module with tensorised projections `loretta_down` and `loretta_up`."""

    method = "a tensor-train adapter"
    adapter_layer_names = ("loretta_down", "loretta_up")

    def __init__(self, base_layer: nn.Module, entry: nn.Module | None = None):
        super().__init__(base_layer, entry)
        self.loretta_down = nn.ModuleDict()
        self.loretta_up = nn.ModuleDict()
        self.configs: dict[str, LorettaAdpConfig] = {}

    def change(self, adapter: str, output: torch.Tensor, given: Any) -> torch.Tensor:
        """Returns scale · up(act(down(o)))."""
        config, down = self.configs[adapter], self.loretta_down[adapter]
        hidden = self._cast_input_dtype(output, next(down.parameters()).dtype)
        hidden = functional.dropout(hidden, config.dropout, self.training)
        return self.loretta_up[adapter](ACT2FN[config.activation](down(hidden))) * config.scale


class LorettaAdpModel(SublayerTuner):
    """A base with tensor-train adapters."""

    prefix = "loretta_"
    tuner_layer_cls = LorettaAdpLayer

    def add(self, layer: LorettaAdpLayer, adapter_name: str, config: LorettaAdpConfig) -> None:
        """Adds a bottleneck, at its start, to a wrapper."""
        hidden, zero, rank = self.hidden_size, config.zero_start, config.tensor_rank
        layer.configs[adapter_name] = config
        layer.loretta_down[adapter_name] = TensorizedLinear(hidden, config.size, rank, zero_bias=zero)
        layer.loretta_up[adapter_name] = TensorizedLinear(config.size, hidden, rank, zero_bias=zero, zero=zero)


def blocks(adapter_config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[Block]:
    """Returns an adapter's bottlenecks in dense form.

    Args:
        adapter_config: the content of `adapter_config.json`.
        tensors: the adapter's tensors by their names in the file.
    """
    found = []
    for name, down_bias in tensors.items():
        if not name.endswith(".loretta_down.bias"):
            continue
        stem = name.removesuffix("loretta_down.bias")
        up_bias = tensors[f"{stem}loretta_up.bias"]
        size, hidden = len(down_bias), len(up_bias)
        found.append(
            dense_block(
                stem,
                adapter_config,
                down=dense(_cores(tensors, f"{stem}loretta_down"), hidden, size),
                up=dense(_cores(tensors, f"{stem}loretta_up"), size, hidden),
                down_bias=down_bias,
                up_bias=up_bias,
                learned_scale=None,
            )
        )
    return found


def _cores(tensors: dict[str, torch.Tensor], stem: str) -> list[torch.Tensor]:
    prefix = f"{stem}.core"
    count = sum(name.startswith(prefix) for name in tensors)
    return [tensors[f"{prefix}{index}"] for index in range(count)]
