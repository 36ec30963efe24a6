"""Two kinds of base: decoder-only, and encoder-decoder such as T5; which classes and names each needs."""

from __future__ import annotations

from typing import Any


def is_encoder_decoder(config: Any) -> bool:
    """Tells whether a model reads the prompt with an encoder of its own."""
    return bool(getattr(config, "is_encoder_decoder", False))


def model_class(config: Any) -> Any:
    """Returns transformers' auto class for a configuration."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if is_encoder_decoder(config) else AutoModelForCausalLM


def task_type(config: Any) -> str:
    """Returns peft's name for what a model of this configuration is trained to do."""
    return "SEQ_2_SEQ_LM" if is_encoder_decoder(config) else "CAUSAL_LM"


def generates_text(config: Any) -> bool:
    """Tells whether transformers has a language model of this configuration, of either kind."""
    from transformers.models.auto import modeling_auto

    names = (
        modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        if is_encoder_decoder(config)
        else modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )
    return config.model_type in names
