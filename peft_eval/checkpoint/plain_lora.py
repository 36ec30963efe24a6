"""LoRA that started by taking part of the base away, written as plain LoRA on the untouched base.

PiSSA, OLoRA, CorDA and LoRA-GA replace the base's W by W - s·B0·A0 before the first step. What they train, B·A, fits
that altered base alone. Yet W - s·B0·A0 + s·B·A = W + s·[B | -B0]·[A ; A0]: plain LoRA of twice the rank, exact up
to the rounding of the altered base (none that shows in float32). So a checkpoint never depends on repeating the start.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from peft_eval.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_ATTRIBUTE = "start_of_adapter"
_ALTER_THE_BASE = ("pissa", "olora", "corda", "lora_ga")


def alters_the_base(adapter_config: Any) -> bool:
    """Tells whether an adapter's start moves part of the base into it, from its peft configuration."""
    start = getattr(adapter_config, "init_lora_weights", None)
    return isinstance(start, str) and start.lower().startswith(_ALTER_THE_BASE)


def remember_start(model: Any) -> None:
    """Keeps a copy of an adapter's first weights with the model, if its start altered the base."""
    from peft import get_peft_model_state_dict

    if alters_the_base(model.peft_config["default"]):
        weights = get_peft_model_state_dict(model, save_embedding_layers=False)
        setattr(model, _ATTRIBUTE, {name: tensor.detach().cpu().clone() for name, tensor in weights.items()})


def as_plain_lora(model: Any, weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], Any]:
    """Returns an adapter's weights and configuration as they fit the untouched base.

    Args:
        model: the `PeftModel`, whose start was remembered.
        weights: its adapter's weights by the names that peft saves them under.

    Returns:
        Weights and configuration; those that were given where the start left the base alone.

    Raises:
        CheckpointError: the start was not remembered, or a part of it has no low-rank form.
    """
    import torch

    config = model.peft_config["default"]
    if not alters_the_base(config):
        return weights, config
    start: dict[str, torch.Tensor] | None = getattr(model, _ATTRIBUTE, None)
    if start is None:
        raise CheckpointError(
            f"the adapter's start ({config.init_lora_weights}) altered its base and was not kept",
            remedy="train it with peft-eval train",
        )
    embedded = sorted(name for name in weights if "lora_embedding_" in name)
    if embedded:
        raise CheckpointError(
            f"{embedded[0]}: an embedding cannot start from {config.init_lora_weights}",
            remedy="leave it out of --targets",
        )
    plain = dict(weights)
    for name, tensor in weights.items():
        first = start.get(name)
        if "lora_A" in name and first is not None:
            plain[name] = torch.cat([tensor, first.to(tensor)], dim=0)
        elif "lora_B" in name and first is not None and not name.endswith("bias"):
            plain[name] = torch.cat([tensor, -first.to(tensor)], dim=1)
    return plain, _of_double_rank(config)


def _of_double_rank(config: Any) -> Any:
    """Doubles rank and alpha; under rsLoRA, alpha / sqrt(rank) stays if alpha grows by sqrt(2) alone."""
    growth = math.sqrt(2) if config.use_rslora else 2
    doubled = copy.deepcopy(config)
    doubled.init_lora_weights = True
    doubled.corda_config = doubled.lora_ga_config = None
    doubled.r = 2 * config.r
    doubled.lora_alpha = growth * config.lora_alpha
    doubled.rank_pattern = {name: 2 * rank for name, rank in config.rank_pattern.items()}
    doubled.alpha_pattern = {name: growth * alpha for name, alpha in config.alpha_pattern.items()}
    return doubled
