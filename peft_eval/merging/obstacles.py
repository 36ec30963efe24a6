"""What is known beforehand not to merge. The last resort: nearly all is found out by asking the adapter's layers."""

from __future__ import annotations

from typing import Any

# peft settings whose effect is no fixed change of one weight, though the layers' own merge does not say so.
_NOT_A_CHANGE_OF_WEIGHTS = {
    "layer_replication": "it repeats layers of the base",
    "alora_invocation_tokens": "it is switched on in the middle of the text",
    "arrow_config": "it is chosen anew at each token",
    "monteclora_config": "it is drawn anew in each pass",
    "kasa_config": "it cuts singular values of the base away",
}
# These starts move part of the base into the adapter, so the saved change fits an altered base only.
_ALTER_THE_BASE = ("pissa", "olora", "corda", "loftq")


def merge_obstacle(adapter_config: dict[str, Any]) -> str | None:
    """Returns why an adapter cannot be merged tensor by tensor, None if nothing is known against it.

    Args:
        adapter_config: the content of `adapter_config.json`.
    """
    kind = str(adapter_config.get("peft_type", "")).upper()
    if adapter_config.get("num_virtual_tokens") is not None:
        return f"{kind} adds virtual tokens, it has no merged form"
    for name, reason in _NOT_A_CHANGE_OF_WEIGHTS.items():
        if adapter_config.get(name):
            return f"{name} is set: {reason}"
    start = str(adapter_config.get("init_lora_weights", "")).lower()
    if start.startswith(_ALTER_THE_BASE):
        return f"init_lora_weights={start!r} altered the base it was trained on"
    parts = adapter_config.get("parts") or ()  # of a composition
    return next((obstacle for part in parts if (obstacle := merge_obstacle(part))), None)
