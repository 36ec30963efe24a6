"""Biases where the base has none: the setting of its architecture that makes room for them."""

from __future__ import annotations

from pathlib import Path

from peft_eval.checkpoint.architecture import read_config
from peft_eval.errors import RouteError
from peft_eval.merging.skeleton import base_tensor_shapes, weightless_model

# Settings by which architectures of transformers give their linear layers biases.
_SETTINGS = ("attention_bias", "mlp_bias", "qkv_bias", "use_bias", "bias", "add_bias_linear")


def room_for_biases(base_folder: Path, needed: set[str]) -> tuple[dict[str, bool], dict[str, tuple[int, ...]]]:
    """Finds settings of a base's config under which it has certain biases.

    Args:
        base_folder: the base.
        needed: names of the biases.

    Returns:
        The settings, and name and shape of all biases that they bring; those not needed are to be zero.

    Raises:
        RouteError: the architecture has no setting for one of them.
    """
    config = read_config(base_folder)
    existing = base_tensor_shapes(base_folder)
    settings: dict[str, bool] = {}
    brought: dict[str, tuple[int, ...]] = {}
    for name in _SETTINGS:
        if getattr(config, name, None) is not False:
            continue
        model = weightless_model(base_folder, **{name: True})
        new = {
            key: tuple(value.shape) for key, value in model.named_parameters() if key not in existing and "bias" in key
        }
        if needed & new.keys():
            settings[name] = True
            brought |= new
    without = sorted(needed - brought.keys())
    if without:
        raise RouteError(
            f"cannot be merged: the adapter adds a bias to {without[0].removesuffix('.bias')}, "
            f"and a {config.model_type} has no setting for it"
        )
    return settings, brought
