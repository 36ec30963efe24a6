"""What base, unmerged and merged model answer to the probe prompts, computed with transformers and peft.

This is what an engine is held against: the unmerged model is peft's own forward pass, so neither our
merging nor the engine has a part in it. Small models are computed in float32, whatever the dtype of
their files; from `_FLOAT32_PARAMETERS` on the files' dtype is used, to keep memory in bounds.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from peft_eval.checkpoint.architecture import is_encoder_decoder, model_class, read_config
from peft_eval.checkpoint.hashing import tokenizer_sha256
from peft_eval.checkpoint.reading import ADAPTER_WEIGHTS
from peft_eval.merging.memory_limit import MemoryLimit
from peft_eval.merging.merger import AdapterMerger, base_tensor_shapes
from peft_eval.merging.quantised import quantised_base
from peft_eval.merging.skeleton import adapter_config, misfits_named
from peft_eval.methods.tuner import register_all

# Logit distance between merged and unmerged model, relative to the largest logit, by dtype of the merged weights.
# float32: the acceptance bound of the design. The others: rounding of weights, about a hundred times their epsilon.
MERGE_BOUNDS = {"float32": 1e-5, "bfloat16": 0.5, "float16": 0.1}
_FLOAT32_PARAMETERS = 1_000_000_000
_PROMPT_TOKENS = 64
PROBE_PROMPTS = (
    "Definition: Answer the question in one word.\n\nInput: What is the capital of France?\nOutput: ",
    "The quick brown fox jumps over the lazy dog, and then it sleeps in the warm sun until evening.",
    "Question: Tom has 12 apples and gives 5 of them to Ann. How many apples are left?\nAnswer: 12 - 5 =",
    "1, 2, 3, 5, 8, 13, 21; a, b, c, d, e; Monday, Tuesday, Wednesday, Thursday,",
)


@dataclass(frozen=True)
class Distance:
    """How far two sets of logits or log-probabilities are apart, over all positions and tokens."""

    largest: float
    mean: float

    @classmethod
    def between(cls, left: list[torch.Tensor], right: list[torch.Tensor]) -> Distance:
        """Measures two equally shaped lists of tensors."""
        gaps = torch.cat([(a.float() - b.float()).abs().flatten() for a, b in zip(left, right, strict=True)])
        return cls(largest=gaps.max().item(), mean=gaps.mean().item())


@dataclass(frozen=True)
class Reference:
    """Logits of each probe prompt, one float32 tensor of (tokens, vocabulary) a prompt.

    Attributes:
        prompt_ids: the prompts' token ids.
        base: the base model's logits.
        unmerged: those of base with adapter, as peft computes them.
        merged: those of the merged weights; None where there is no merged form.
        dtype: the dtype of the computation.
    """

    prompt_ids: list[list[int]]
    base: list[torch.Tensor]
    unmerged: list[torch.Tensor]
    merged: list[torch.Tensor] | None
    dtype: str

    @property
    def effect(self) -> Distance:
        """What the adapter does: unmerged against base."""
        return Distance.between(self.unmerged, self.base)

    @property
    def merge_distance(self) -> Distance | None:
        """What merging costs: merged against unmerged."""
        return Distance.between(self.merged, self.unmerged) if self.merged is not None else None

    @property
    def largest_logit(self) -> float:
        """Largest absolute logit of the unmerged model, to put distances in proportion."""
        return max(logits.abs().max().item() for logits in self.unmerged)


def probe_prompt_ids(tokenizer_folder: Path) -> list[list[int]]:
    """Returns the probe prompts as token ids, at most 64 each, with the tokenizer's own special tokens.

    A folder without a tokenizer gives random tokens of its vocabulary, always the same.
    """
    if tokenizer_sha256(tokenizer_folder) is None:
        rows = read_config(tokenizer_folder).get_text_config().vocab_size
        generator = torch.Generator().manual_seed(0)
        return torch.randint(rows, (len(PROBE_PROMPTS), _PROMPT_TOKENS), generator=generator).tolist()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, trust_remote_code=False)
    return [tokenizer(text).input_ids[:_PROMPT_TOKENS] for text in PROBE_PROMPTS]


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hides transformers' progress bars for a while."""
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()


@torch.inference_mode()
def logits_of(model: Any, prompt_ids: list[list[int]]) -> list[torch.Tensor]:
    """Returns a model's logits for each prompt, float32 (tokens, vocabulary)."""
    # With virtual tokens there are logits for them too, before the prompt's own.
    if is_encoder_decoder(model.config):
        # Encoder and decoder both read the prompt: an adapter in either shows.
        prompts = [torch.tensor([ids]) for ids in prompt_ids]
        shift = model.prepare_decoder_input_ids_from_labels
        return [model(input_ids=ids, decoder_input_ids=shift(labels=ids)).logits[0].float() for ids in prompts]
    return [model(input_ids=torch.tensor([ids])).logits[0, -len(ids) :].float() for ids in prompt_ids]


def reference_logits(
    adapter_folder: Path, base_folder: Path, tokenizer_folder: Path, *, served_dtype: torch.dtype | None
) -> Reference:
    """Computes what the probe prompts should give.

    Args:
        adapter_folder: a peft-format adapter.
        base_folder: its base.
        tokenizer_folder: where the tokenizer to be served with is.
        served_dtype: dtype that merged weights are rounded to; None if they are not served merged.
    """
    shapes = base_tensor_shapes(base_folder)
    small = sum(torch.Size(shape).numel() for shape in shapes.values()) < _FLOAT32_PARAMETERS
    prompt_ids = probe_prompt_ids(tokenizer_folder)
    register_all()
    with quiet_transformers():
        kind = model_class(read_config(base_folder))
        model = kind.from_pretrained(base_folder, dtype=torch.float32 if small else "auto").eval()
        on_disk = {}
        if quantised := quantised_base(adapter_folder, model):
            on_disk = {name: weight.clone() for name, weight in model.named_parameters() if name in quantised.names}
            quantised.apply(model)
        adapted = _adapted(model, adapter_folder)
    unmerged = logits_of(adapted, prompt_ids)
    with adapted.disable_adapter():
        base = logits_of(adapted, prompt_ids)
    merged = None
    if served_dtype is not None:
        merger = AdapterMerger(adapter_folder, base_folder, dtype=served_dtype)
        plain = _merged_model(adapted.unload(), merger, on_disk)
        merged = logits_of(plain, prompt_ids)
    return Reference(prompt_ids, base, unmerged, merged, dtype="float32" if small else str(model.dtype)[6:])


def _adapted(model: Any, adapter_folder: Path) -> PeftModel:
    """Puts an adapter into a model as peft does.

    Raises:
        CheckpointError, BaseMismatchError: its configuration cannot be used, or not with this base.
    """
    adapter_config(adapter_folder)
    elements = sum(parameter.numel() for parameter in model.parameters())
    with MemoryLimit(adapter_folder / ADAPTER_WEIGHTS, elements), misfits_named(adapter_folder):
        return PeftModel.from_pretrained(model, str(adapter_folder)).eval()


def _merged_model(plain: Any, merger: AdapterMerger, on_disk: dict[str, torch.Tensor]) -> Any:
    """Puts merged weights into a base in memory, or into a model of its own where the merged config differs.

    Args:
        plain: the base in memory.
        merger: merges the adapter.
        on_disk: tensors of the base's files that differ from those in memory.
    """
    weights = plain.state_dict()
    changed = {name: merger.merge(name, on_disk.get(name, weights[name])) for name in merger.targets}
    changed |= dict(merger.extra_tensors())
    if not merger.config_overrides:
        for name, tensor in changed.items():
            weights[name].copy_(tensor)
        return plain
    config = copy.deepcopy(plain.config)
    for name, value in merger.config_overrides.items():
        setattr(config, name, value)
    model = model_class(config).from_config(config, dtype=plain.dtype).eval()
    model.load_state_dict({**weights, **changed})
    return model
