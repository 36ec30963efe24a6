"""Small random base models of each architecture that adapters inside vLLM are tested with, in its kernels' sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VOCABULARY = 512
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_GATED = {**_SIZES, "intermediate_size": 128, "num_key_value_heads": 1, "head_dim": 64}
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 512}
# By name after `--base random:`, which is the model type; OPT's and GPT-2's have one key head for each query head.
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _GATED),
    "mistral": ("Mistral", {**_GATED, "sliding_window": 64}),
    # vLLM's Qwen2 takes hidden size / heads for the size of a head, whatever the config says.
    "qwen2": ("Qwen2", {**_GATED, "hidden_size": 128}),
    "qwen3": ("Qwen3", _GATED),
    "gemma": ("Gemma", _GATED),
    "gemma2": ("Gemma2", {**_GATED, "sliding_window": 64, "query_pre_attn_scalar": 64}),
    "gemma3_text": ("Gemma3Text", {**_GATED, "sliding_window": 64, "query_pre_attn_scalar": 64}),
    "opt": ("OPT", {**_SIZES, "ffn_dim": 128, "word_embed_proj_dim": 64}),
    "gpt2": ("GPT2", {**_GPT2, "bos_token_id": 0, "eos_token_id": 1}),
}


def write_random_base(architecture: str, folder: Path) -> None:
    """Writes a float32 model with weights large enough to matter, and a word-level tokenizer."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    name, sizes = CONFIGS[architecture]
    config = getattr(transformers, f"{name}Config")(**sizes)
    config.initializer_range = 0.1
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(str(folder))
    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token="w2"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w0", eos_token="w1").save_pretrained(
        str(folder)
    )
