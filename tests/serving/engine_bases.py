"""Tiny random bases of other architectures, with a tokenizer, in sizes that vLLM's kernels take."""

from __future__ import annotations

from pathlib import Path

from tests.tiny import tiny_tokenizer

VOCABULARY = 384
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_CONFIGS = {
    "OPT": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "Gemma3Text": {"intermediate_size": 128, "num_key_value_heads": 1, "head_dim": 64, "sliding_window": 64},
}


def write_base(kind: str, folder: Path) -> Path:
    """Writes a random base, whose weights are large enough that what it says depends on the prompt."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    tiny_tokenizer(folder, vocab=VOCABULARY)
    config = getattr(transformers, f"{kind}Config")(**_SIZES, **_CONFIGS[kind])
    config.initializer_range = 0.1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(str(folder))
    return folder
