"""A tiny random RoBERTa classifier, built in a second."""

from __future__ import annotations

from pathlib import Path

from tests.tiny import tiny_tokenizer


def tiny_roberta(folder: Path, *, labels: int = 2, most_tokens: int = 64) -> Path:
    """Writes a random RoBERTa sequence classifier and its tokenizer into `folder` and returns it."""
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    tiny_tokenizer(folder, bos=True)
    config = RobertaConfig(
        vocab_size=384,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=most_tokens + 3,
        type_vocab_size=1,
        num_labels=labels,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(8)
        RobertaForSequenceClassification(config).save_pretrained(str(folder))
    return folder
