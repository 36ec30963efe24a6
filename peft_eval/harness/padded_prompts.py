"""Batches of prompts behind virtual tokens in transformers: the padding must not move the positions.

peft puts the virtual tokens before the padding and drops `position_ids`, so that a model with rotary or learned
positions sees a shorter prompt farther away from its virtual tokens than it was in training, by as much as the batch
pads it.
"""

from __future__ import annotations

from typing import Any

from peft_eval.serving.virtual_tokens import PROMPT_TYPES


def count_positions_by_mask(model: Any) -> None:
    """Makes a peft model with virtual tokens count positions over tokens that are no padding; leaves others alone."""
    config = getattr(model, "active_peft_config", None)
    if config is not None and str(getattr(config.peft_type, "value", config.peft_type)) in PROMPT_TYPES:
        model.get_base_model().register_forward_pre_hook(_with_positions, with_kwargs=True)


def _with_positions(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    mask = kwargs.get("attention_mask")
    given = kwargs.get("inputs_embeds")
    given = given if given is not None else kwargs.get("input_ids")
    if kwargs.get("position_ids") is None and mask is not None and mask.dim() == 2 and given is not None:
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        kwargs["position_ids"] = positions[:, -given.shape[1] :]
    return args, kwargs
