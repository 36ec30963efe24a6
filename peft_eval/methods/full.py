"""Full fine-tuning: every weight of the base is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from peft_eval.methods.method import MethodOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class FullOptions(MethodOptions):
    """Full fine-tuning has no options of its own."""


class FullMethod:
    """All weights, at the learning rate and schedule the paper's author used (PROTOCOLS A2)."""

    name = "full"
    summary = "full fine-tuning: every weight of the base"
    source = "arXiv 2411.16775"
    options: type[MethodOptions] = FullOptions
    kind: Literal["adapter", "full"] = "full"
    training_defaults: Mapping[str, Any] = {
        "learning_rate": 1e-5,
        "weight_decay": 0.0,
        "scheduler": "constant",
        "warmup_ratio": 0.0,
    }

    def fit(self, model: PreTrainedModel, options: FullOptions) -> FullOptions:
        """Returns the options unchanged: they fit any base."""
        return options

    def prepare(self, model: PreTrainedModel, options: FullOptions, *, base_id: str) -> PreTrainedModel:
        """Returns the base itself with gradients on all its parameters."""
        return model.requires_grad_(True)  # type: ignore[return-value]
