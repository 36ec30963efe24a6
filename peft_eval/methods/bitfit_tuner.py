"""BitFit as a peft tuner: what a module computes, plus a trained vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peft_eval.methods.weight_tuner import ModuleLayer, WeightConfig, WeightTuner


@dataclass
class BitFitConfig(WeightConfig):
    """Biases of chosen modules."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "BITFIT"  # type: ignore[assignment]  # peft's enum is closed, its tables are not


def has_place(module: nn.Module) -> bool:
    """Tells whether a vector can be added to what a module computes: linear layers and norms, by their weight."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or isinstance(module, nn.Embedding):
        return False
    return weight.dim() == 1 or _is_linear(module)


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (nn.Linear, Conv1D))


def width(module: nn.Module) -> int:
    """Returns how many numbers a module's output has a token."""
    weight: Any = module.weight
    return int(weight.shape[0]) if isinstance(module, nn.Linear) or weight.dim() == 1 else int(weight.shape[1])


class BitFitLayer(ModuleLayer):
    """A linear layer or norm with a trained vector, `bitfit_bias`, added to its output and so to its bias.

    Attributes:
        adds_a_bias: whether the base has no bias here.
    """

    adapter_layer_names = ("bitfit_bias",)
    merged_leaves = ("bias",)

    def __init__(self, base_layer: nn.Module):
        super().__init__(base_layer)
        self.bitfit_bias = nn.ParameterDict()
        self.adds_a_bias = getattr(self.get_base_layer(), "bias", None) is None

    def changed(self, adapters: list[str], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Returns the module's output + bias: (..., features)."""
        result = self.base_layer(*args, **kwargs)
        for adapter in adapters:
            result = result + self.bitfit_bias[adapter].to(result.dtype)
        return result

    def merged_parameters(self, adapter: str) -> dict[str, torch.Tensor]:
        """Returns the bias with an adapter in it: (features,).

        Raises:
            NotImplementedError: the module has no place for a bias, as Llama's norms.
        """
        module: Any = self.get_base_layer()
        if not hasattr(module, "bias"):
            raise NotImplementedError(f"a {type(module).__name__} has no place for a bias, so it has no merged form")
        trained = self.bitfit_bias[adapter].data.float()
        return {"bias": trained.clone() if module.bias is None else module.bias.data.float() + trained}

    def unmerged_parameters(self, adapter: str) -> dict[str, torch.Tensor | None]:
        """Returns the bias without an adapter, None where the base had none."""
        bias: Any = self.get_base_layer().bias
        if self.adds_a_bias and not self.merged_adapters:
            return {"bias": None}
        return {"bias": bias.data.float() - self.bitfit_bias[adapter].data.float()}


class BitFitModel(WeightTuner):
    """A base with trained biases."""

    prefix = "bitfit_"
    tuner_layer_cls = BitFitLayer

    def add(self, layer: BitFitLayer, adapter_name: str, config: Any, name: str) -> None:
        """Adds a bias of zero.

        Raises:
            ValueError: the module is neither a linear layer nor a norm.
        """
        module = layer.get_base_layer()
        if not has_place(module):
            raise ValueError(f"{name}, a {type(module).__name__}, can have no bias")
        layer.bitfit_bias[adapter_name] = nn.Parameter(torch.zeros(width(module)))
