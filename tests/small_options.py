"""Options with which each method fits the tiny models of tests/tiny.py, where its defaults are too large."""

from __future__ import annotations

from typing import Any

RANK_4 = {"rank": 4}
# By adapter type for the catalogue's methods, by name for others.
SMALL: dict[str, dict[str, Any]] = {
    "LORA": {"rank": 4, "alpha": 8},
    "ADALORA": {"init_r": 6, "target_r": 4, "orth_reg_weight": 0.1},
    "ADAMSS": {"rank": 8, "num_subspaces": 2},
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 2},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 16},
    "CARTRIDGE": {"num_virtual_tokens": 4},
    "FOURIERFT": {"n_frequency": 100, "scaling": 20.0},
    "OFT": {"oft_block_size": 16},
    "OSF": {"effective_rank": 48},
    "PEANUT": RANK_4,
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "P_TUNING": {"num_virtual_tokens": 4, "encoder_hidden_size": 16},
    "PVERA": {"rank": 16},
    "ROAD": {"group_size": 16},
    "TRAINABLE_TOKENS": {"token_indices": [35, 70, 104]},
    "VBLORA": {"rank": 4, "num_vectors": 16, "vector_length": 16},
    "VERA": {"rank": 16},
    "WAVEFT": {"n_frequency": 100},
    "compacter": {"phm_dim": 2},
    "compacter_pp": {"phm_dim": 2},
}


def small_options(method: Any) -> dict[str, Any]:
    """Returns a method's options for a tiny base."""
    preset = getattr(method, "preset", None)
    return SMALL.get(preset.peft_type if preset else method.name, {})
