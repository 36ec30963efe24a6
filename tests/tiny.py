"""Tiny random models and tokenizers, built in a second, for tests of every room."""

from __future__ import annotations

from pathlib import Path

SENTENCES = [
    "Definition: In this task you are given a sentence and must answer yes or no.",
    "Now complete the following example -\nInput: the quick brown fox jumps over the lazy dog.\nOutput: ",
    "Sort the numbers 0 1 2 3 4 5 6 7 8 9 from small to large, write them down and explain why.",
    " Positive Example 1 -\nInput: one two three\n Output: three two one\n",
]


def tiny_tokenizer(folder: Path, *, vocab: int = 384, bos: bool = False, eos: bool = False) -> None:
    """Writes a byte-level BPE tokenizer of at most `vocab` tokens into `folder`.

    Ids 0, 1 and 2 are `<s>`, `</s>` and `<pad>`. With `bos`, `<s>` is put before every text, with `eos`, `</s>` after.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 2, trainer)
    if bos or eos:
        around = f"{'<s> ' if bos else ''}{{}}{' </s>' if eos else ''}"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=around.format("$A"), pair=around.format("$A $B"), special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=1024
    )
    fast.save_pretrained(str(folder))


def tiny_llama(
    folder: Path,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 1,
    head_dim: int = 64,
    vocab: int = 384,
    context: int = 512,
    tied: bool = True,
    dtype: str = "float32",
    bos: bool = False,
    seed: int = 0,
) -> Path:
    """Writes a random Llama (config, safetensors, tokenizer) into `folder` and returns it.

    Its weights are large enough (standard deviation 0.1) that greedy text depends on the prompt.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tiny_tokenizer(folder, vocab=vocab, bos=bos)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=head_dim,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.to(getattr(torch, dtype)).save_pretrained(str(folder))
    return folder


def tiny_t5(folder: Path, *, seed: int = 0) -> Path:
    """Writes a random T5 v1.1 (gated feed-forward, untied head) into `folder` and returns it."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    tiny_tokenizer(folder, eos=True)
    config = T5Config(
        vocab_size=384,
        d_model=64,
        d_kv=32,
        d_ff=128,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        decoder_start_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(config)
    model.save_pretrained(str(folder))
    return folder
