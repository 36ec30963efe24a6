"""The manifest of a trained checkpoint: base, method, data, text, the run and its cost."""

from __future__ import annotations

import platform
import resource
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from peft_eval import __version__, plugins
from peft_eval.checkpoint.hashing import tokenizer_sha256, weights_sha256
from peft_eval.checkpoint.manifest import BaseRecord, DataRecord, Manifest, MethodRecord, TextRecord, TrainingRecord
from peft_eval.data.source import Example
from peft_eval.training.setup import Setup

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors")


def manifest_of(
    setup: Setup,
    *,
    trainable_parameters: int,
    total_parameters: int,
    steps: int,
    epochs: float,
    tokens: int,
    seconds: float,
    losses: list[tuple[int, float]],
) -> Manifest:
    """Returns the manifest; `publish` adds the files' hashes."""
    spec, base = setup.spec, setup.base
    return Manifest(
        kind=plugins.methods()[spec.method].kind,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        base=BaseRecord(
            location=base.location,
            revision=base.revision,
            weights_sha256=weights_sha256(base.folder),
            vocab_size=base.config.get_text_config().vocab_size,
            quantization=setup.quantization,
        ),
        method=MethodRecord(
            name=spec.method,
            options=spec.options,
            trainable_parameters=trainable_parameters,
            total_parameters=total_parameters,
        ),
        data=DataRecord(
            source=setup.data.source,
            encoding=setup.data.encoding,
            content_sha256=setup.data.content_sha256,
            instances=instances_by_task(setup.data.examples),
            notes=setup.data.notes,
        ),
        text=TextRecord(
            tokenizer_sha256=tokenizer_sha256(base.folder),
            adds_bos=setup.tokens.adds_bos,
            adds_eos=True,
            template=setup.template.name,
            chat_template_sha256=setup.template.sha256,
            max_source_tokens=spec.max_source_tokens if setup.template.text is None else None,
            max_target_tokens=spec.max_target_tokens if setup.template.text is None else None,
            max_conversation_tokens=None if setup.template.text is None else spec.max_conversation_tokens,
        ),
        training=TrainingRecord(
            spec=spec.flat(),
            seed=spec.seed,
            steps=steps,
            epochs=epochs,
            tokens=tokens,
            seconds=round(seconds, 3),
            peak_memory_bytes=peak_memory_bytes(),
            truncated_examples=setup.tokens.truncated_examples,
            losses=losses,
        ),
        overlap=setup.overlap,
        versions=versions(),
    )


def instances_by_task(examples: Iterable[Example]) -> dict[str, list[str]]:
    """Returns the ids of the instances of each task, in the order of the data."""
    instances: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        instances[example.task].append(example.instance_id)
    return dict(instances)


def losses_of(log_history: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """Returns (step, training loss) from the Trainer's log."""
    return [(entry["step"], round(entry["loss"], 6)) for entry in log_history if "loss" in entry]


def count_weights(model: Any, *, trained: bool = False) -> int:
    """Returns how many weights a model has, or how many of them are trained."""
    # A quantised weight is stored as packed bytes; its state knows its shape.
    return sum(
        weight.quant_state.shape.numel() if hasattr(weight, "quant_state") else weight.numel()
        for weight in model.parameters()
        if weight.requires_grad or not trained
    )


def peak_memory_bytes() -> int:
    """Returns the most memory this process has held: the GPU's where there is one, else its own."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Returns the versions of what took part."""
    found = {"peft_eval": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
