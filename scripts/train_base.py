"""Makes the embedded base: corpus, tokenizer, packed tokens, training, export. Resumes after a kill.

The command, seed and times of the base that is shipped are in adapters_zoo/base/README.md. Packed rows are
cut from one stream of `<s>document</s>`; every step reads the next tokens, so that a resumed run sees what an
unbroken one would have seen. The learning rate warms up, stays, and falls linearly to zero at the end.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from base_corpus import Corpus
from tqdm import tqdm

from peft_eval.checkpoint.hashing import file_sha256
from peft_eval.data.mini.corpus import train_tasks

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
CONTEXT = 1024
ROW_TOKENS = 256
LONG_SHARE = 0.1  # the last part of the run reads rows of the whole context
PEAK_LEARNING_RATE = 8e-4  # at 2e-3 the copying that the run starts with is lost
WARMUP_STEPS = 200
DECAY_SHARE = 0.3
SAVE_SECONDS = 180.0
TOKENIZER_DOCUMENTS = 20_000


def build_tokenizer(corpus: Corpus, vocabulary: int, documents: int) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE with single digits on the corpus and the wordings of train definitions."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[BOS, EOS, PAD], initial_alphabet=alphabet)
    texts = [document for _, document in zip(range(documents), corpus.documents(), strict=False)]
    wordings = [definition for task in train_tasks() for definition in task.definitions]
    tokenizer.train_from_iterator(texts + 20 * wordings, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, model_max_length=CONTEXT
    )


def pack(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, count: int) -> np.ndarray:
    """Returns `count` token ids, shape (count,), of documents that each begin with BOS and end with EOS."""
    packed, filled = np.empty(count, dtype=np.uint16), 0
    documents = corpus.documents()
    with tqdm(total=count, unit="tok", unit_scale=True, desc="packing") as bar:
        while filled < count:
            texts = [next(documents) for _ in range(1000)]
            for encoding in tokenizer._tokenizer.encode_batch(texts):
                ids = [*encoding.ids, tokenizer.eos_token_id][: count - filled]
                packed[filled : filled + len(ids)] = ids
                filled += len(ids)
            bar.update(filled - bar.n)
    return packed


def new_model(vocabulary: int, layers: int, width: int) -> LlamaForCausalLM:
    """Returns a Llama with heads of 64 and tied embeddings that can copy and nothing else."""
    import torch
    from induction_start import seed_induction
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    seed_induction(model, seed=0)
    return model


def rate_share(step: int, steps: int) -> float:
    """Returns the share of the peak learning rate at a step: warm-up, plateau, linear fall to zero."""
    rising = (step + 1) / WARMUP_STEPS
    falling = (steps - step) / max(1, round(steps * DECAY_SHARE))
    return min(1.0, rising, falling)


class Run:
    """A training run whose state is one file in the work folder.

    Args:
        model: the model, float32.
        work: folder of the state file and the loss log.
        steps: length of the run.
        tokens_per_step: a multiple of the context.
    """

    def __init__(self, model: LlamaForCausalLM, work: Path, steps: int, tokens_per_step: int):
        import torch

        self.model, self.steps, self.tokens_per_step = model, steps, tokens_per_step
        self.state_file, self.log = work / "state.pt", work / "loss.csv"
        self.optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.01, fused=True)
        self.step, self.seconds = 0, 0.0
        if self.state_file.exists():
            state = torch.load(self.state_file, weights_only=True)
            model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        import torch

        state: dict[str, Any] = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        part = self.state_file.with_suffix(".part")
        torch.save(state | {"step": self.step, "seconds": self.seconds}, part)
        part.replace(self.state_file)

    def rows(self, tokens: np.ndarray) -> torch.Tensor:
        """Returns this step's ids, shape (rows, tokens)."""
        import torch

        length = CONTEXT if self.step >= self.steps * (1 - LONG_SHARE) else ROW_TOKENS
        start = self.step * self.tokens_per_step
        ids = tokens[start : start + self.tokens_per_step].astype(np.int64)
        return torch.from_numpy(ids).view(-1, length)

    def train(self, tokens: np.ndarray) -> None:
        """Trains on packed ids to the end."""
        saved, recent = time.monotonic(), []
        with tqdm(total=self.steps, initial=self.step, desc="training", unit="step") as bar:
            while self.step < self.steps:
                began = time.monotonic()
                loss = self.one_step(self.rows(tokens))
                self.step += 1
                self.seconds += time.monotonic() - began
                recent = [*recent[-99:], loss]
                if self.step % 20 == 0 or self.step == self.steps:
                    mean = sum(recent) / len(recent)
                    bar.set_postfix(loss=f"{mean:.3f}")
                    with self.log.open("a", encoding="utf-8") as file:
                        file.write(f"{self.step},{mean:.4f},{self.seconds:.0f}\n")
                bar.update()
                if time.monotonic() - saved > SAVE_SECONDS or self.step == self.steps:
                    self.save()
                    saved = time.monotonic()

    def one_step(self, ids: torch.Tensor) -> float:
        """Makes one update on ids of shape (rows, tokens) and returns its loss."""
        import torch

        self.optimizer.param_groups[0]["lr"] = PEAK_LEARNING_RATE * rate_share(self.step, self.steps)
        with torch.autocast("cpu", torch.bfloat16):
            loss = self.model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, output: Path, record: dict[str, Any]) -> None:
    """Writes bf16 safetensors, tokenizer, configs and how the base was made."""
    import torch

    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    record["sha256"] = {name: file_sha256(output / name) for name in ("model.safetensors", "tokenizer.json")}
    (output / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


@click.command(context_settings={"show_default": True})
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for the base.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder for tokens, state and loss log.")
@click.option("--text", type=click.Path(path_type=Path), help="Folder with gsm8k/ and flan_cot/ (free English).")
@click.option("--steps", default=3000, help="Updates.")
@click.option("--tokens-per-step", default=2048, help="Multiple of 1024.")
@click.option("--vocabulary", default=2560, help="Tokens of the byte-level BPE.")
@click.option("--layers", default=5)
@click.option("--width", default=256, help="Hidden size, a multiple of 64.")
@click.option("--seed", default=1)
@click.option("--threads", default=os.cpu_count())
def main(
    output: Path,
    work: Path,
    text: Path | None,
    steps: int,
    tokens_per_step: int,
    vocabulary: int,
    layers: int,
    width: int,
    seed: int,
    threads: int,
) -> None:
    """Trains the embedded base, e.g. `python scripts/train_base.py --output /tmp/base --work /tmp/work`."""
    import torch
    from transformers import PreTrainedTokenizerFast

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tokenizer" / "tokenizer.json").exists():
        build_tokenizer(Corpus(seed, text), vocabulary, TOKENIZER_DOCUMENTS).save_pretrained(work / "tokenizer")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    run = Run(new_model(len(tokenizer), layers, width), work, steps, tokens_per_step)
    if run.step < steps:
        packed = work / f"tokens-{steps}.npy"
        if not packed.exists():
            np.save(packed, pack(Corpus(seed + 1, text), tokenizer, steps * tokens_per_step))
        run.train(np.load(packed))
    record = {
        "steps": run.step,
        "tokens": run.step * tokens_per_step,
        "seed": seed,
        "threads": threads,
        "seconds": round(run.seconds),
        "mean_loss_of_last_100_steps": float(run.log.read_text(encoding="utf-8").split(",")[-2]),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "free_english": text is not None,
    }
    export(run.model, tokenizer, output, record)


if __name__ == "__main__":
    main()
