"""LoRETTA_rep as a peft tuner: W + (alpha / rank) · B · A with tensor trains for A and B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from peft_eval.methods.tensor_train import TensorTrain
from peft_eval.methods.weight_tuner import WeightConfig, WeightLayer, WeightTuner


@dataclass
class LorettaRepConfig(WeightConfig):
    """A low-rank update in tensor-train form.

    Attributes:
        rank: rank of the update.
        alpha: its scale, divided by the rank.
        tensor_rank: the largest rank between two cores.
        dropout: before A, while training.
        zero_start: whether the update starts at zero.
    """

    rank: int = 8
    alpha: float = 16.0
    tensor_rank: int = 5
    dropout: float = 0.0
    zero_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "LORETTA_REP"  # type: ignore[assignment]  # peft's enum is closed, its tables are not


class LorettaRepLayer(WeightLayer):
    """A linear layer with tensor trains `loretta_A` for (rank, in) and `loretta_B` for (out, rank)."""

    adapter_layer_names = ("loretta_A", "loretta_B")

    def __init__(self, base_layer: nn.Module):
        super().__init__(base_layer)
        self.loretta_A = nn.ModuleDict()
        self.loretta_B = nn.ModuleDict()
        self.configs: dict[str, LorettaRepConfig] = {}

    def changed(self, adapters: list[str], x: torch.Tensor) -> torch.Tensor:
        """Returns x Wᵀ + b + (alpha / rank) · (x Aᵀ) Bᵀ: (..., out)."""
        result = self.base_layer(x)
        for adapter in adapters:
            config = self.configs[adapter]
            down, up = self._factors(adapter)
            given = functional.dropout(self._cast_input_dtype(x, down.dtype), config.dropout, self.training)
            added = functional.linear(functional.linear(given, down), up) * (config.alpha / config.rank)
            result = result + added.to(result.dtype)
        return result

    def delta(self, adapter: str) -> torch.Tensor:
        """Returns (alpha / rank) · B · A."""
        config = self.configs[adapter]
        down, up = self._factors(adapter)
        return (up @ down).float() * (config.alpha / config.rank)

    def _factors(self, adapter: str) -> tuple[torch.Tensor, torch.Tensor]:
        trains: Any = self.loretta_A[adapter], self.loretta_B[adapter]
        return trains[0].dense(), trains[1].dense()


class LorettaRepModel(WeightTuner):
    """A base with low-rank updates in tensor-train form."""

    prefix = "loretta_"
    tuner_layer_cls = LorettaRepLayer

    def add(self, layer: LorettaRepLayer, adapter_name: str, config: Any, name: str) -> None:
        """Adds two tensor trains."""
        layer.configs[adapter_name] = config
        rank, tensor_rank = config.rank, config.tensor_rank
        layer.loretta_A[adapter_name] = TensorTrain(layer.in_features, rank, tensor_rank)
        layer.loretta_B[adapter_name] = TensorTrain(rank, layer.out_features, tensor_rank, zero=config.zero_start)
