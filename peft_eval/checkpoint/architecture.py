"""Two kinds of base: decoder-only, and encoder-decoder such as T5; which classes and names each needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft_eval.errors import CheckpointError
from peft_eval.plain_files import shown


def read_config(folder: Path, **overrides: Any) -> Any:
    """Reads a model folder's configuration as transformers does, without code from the folder.

    Args:
        folder: the folder.
        overrides: other values for settings.

    Raises:
        CheckpointError: transformers cannot use it.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=False, **overrides)
    except Exception as error:  # validators of all kinds, each with a type of its own
        raise unusable(folder, error) from error


def unusable(folder: Path, error: Exception) -> CheckpointError:
    """Builds the error for a configuration that no model can be built from."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return CheckpointError(
        f"config.json cannot be used: {shown(lines[-1] if 'alidation' in lines[0] else lines[0], 200)}",
        place=str(folder),
        remedy="take the model's own config.json",
    )


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
