"""A tiny random model of each structure of layer that our tuners know."""

from __future__ import annotations

from typing import Any

import torch
import transformers

PROMPT = torch.tensor([[5, 9, 40, 31, 33, 12], [7, 3, 41, 8, 60, 2]])
_SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GATED = {**_SIZES, "intermediate_size": 48, "num_key_value_heads": 1, "head_dim": 16}
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _GATED),
    "mistral": ("Mistral", {**_GATED, "sliding_window": 4}),
    "qwen2": ("Qwen2", _GATED),
    "qwen3": ("Qwen3", _GATED),
    "gemma": ("Gemma", _GATED),
    "gemma2": ("Gemma2", {**_GATED, "sliding_window": 4}),
    "gemma3_text": ("Gemma3Text", {**_GATED, "sliding_window": 4}),
    "opt": ("OPT", {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "gpt2": ("GPT2", {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "gpt_neox": ("GPTNeoX", {**_SIZES, "intermediate_size": 48}),
    "t5": ("T5", {"vocab_size": 64, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2}),
}
ARCHITECTURES = list(_CONFIGS)
CAUSAL = [name for name in ARCHITECTURES if name != "t5"]


def tiny(architecture: str, dtype: torch.dtype = torch.float32, *, sliding_window: int | None = None) -> Any:
    """Returns a random model in evaluation mode, the same at each call; weights are large enough to matter.

    Mistral, Gemma 2 and 3 see four tokens back in some layers, unless `sliding_window` says otherwise.
    """
    name, sizes = _CONFIGS[architecture]
    if sliding_window and "sliding_window" in sizes:
        sizes = {**sizes, "sliding_window": sliding_window}
    config = getattr(transformers, f"{name}Config")(**sizes)
    config.initializer_range = 0.1
    kind = transformers.AutoModelForSeq2SeqLM if architecture == "t5" else transformers.AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind.from_config(config, dtype=dtype).eval()


def forward(model: Any, prompt: torch.Tensor = PROMPT) -> torch.Tensor:
    """Returns the logits of a prompt; an encoder-decoder gets it on both sides."""
    if model.config.is_encoder_decoder:
        return model(input_ids=prompt, decoder_input_ids=prompt.flip(1)).logits
    return model(input_ids=prompt).logits
