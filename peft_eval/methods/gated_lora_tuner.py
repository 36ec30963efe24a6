"""LoRA behind a gate, UniPELT's part (arXiv 2110.07577, section 3.3): x W + sigmoid(x · w + b) · (alpha / r) · B A x.

A is (r, in), B is (out, r) and starts at zero, w is (in,). The gate replaces nothing else of LoRA's. peft's own LoRA
has no gate; what the gate gives depends on the input, so there is no merged form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import _get_in_out_features
from torch import nn

from peft_eval.methods.bottleneck_tuner import start
from peft_eval.methods.sublayer_tuner import SublayerAdapter, SublayerTuner


@dataclass
class GatedLoraConfig(PeftConfig):
    """LoRA's rank, alpha, dropout and targets, named as peft's LoRA names them."""

    r: int = 8
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    target_modules: list[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "GATED_LORA"  # type: ignore[assignment]  # as for every tuner of ours


class GatedLoraLayer(SublayerAdapter):
    """A linear layer with its gated updates."""

    method = "a gated LoRA"
    wraps_sublayers = False
    adapter_layer_names: tuple[str, ...] = ("gated_lora_a", "gated_lora_b", "gated_lora_gate")
    other_param_names: tuple[str, ...] = ("configs",)

    def __init__(self, base_layer: nn.Module, entry: nn.Module | None = None):
        super().__init__(base_layer, entry)
        self.gated_lora_a = nn.ModuleDict()
        self.gated_lora_b = nn.ModuleDict()
        self.gated_lora_gate = nn.ModuleDict()
        self.configs: dict[str, GatedLoraConfig] = {}

    def add_adapter(self, name: str, config: GatedLoraConfig) -> None:
        """Adds an update at its start, the base: A Kaiming uniform, B zero."""
        inputs, outputs = _get_in_out_features(self.get_base_layer())
        assert inputs is not None and outputs is not None  # the target is a linear layer
        self.configs[name] = config
        self.gated_lora_a[name] = a = nn.Linear(inputs, config.r, bias=False)
        self.gated_lora_b[name] = b = nn.Linear(config.r, outputs, bias=False)
        self.gated_lora_gate[name] = gate = nn.Linear(inputs, 1)
        nn.init.kaiming_uniform_(a.weight, a=math.sqrt(5))
        nn.init.zeros_(b.weight)
        start(gate, "bert", is_up=False)

    def change(self, adapter: str, output: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Returns gate(x) · (alpha / r) · B A x."""
        config = self.configs[adapter]
        a: Any = self.gated_lora_a[adapter]
        x = self._cast_input_dtype(given, a.weight.dtype)
        update = self.gated_lora_b[adapter](a(nn.functional.dropout(x, config.lora_dropout, self.training)))
        return self.gated_lora_gate[adapter](x).sigmoid() * (config.lora_alpha / config.r) * update


class GatedLoraModel(SublayerTuner):
    """A base with gated LoRA on chosen linear layers."""

    prefix = "gated_lora_"
    tuner_layer_cls = GatedLoraLayer

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        """Leaves the targets as they are given: they are linear layers, not sublayers."""

    def wrap(self, config: Any, module: nn.Module, name: str) -> SublayerAdapter:
        """Returns the wrapper of a linear layer, without updates yet."""
        return GatedLoraLayer(module)

    def add(self, layer: Any, adapter_name: str, config: Any) -> None:
        """Adds an update, at its start, to a wrapper."""
        layer.add_adapter(adapter_name, config)
