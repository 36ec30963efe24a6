"""Arguments of a vLLM engine that depend on the model and this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# As `max_model_len`: the model's own context, or the longest that fits into the KV cache. vLLM hands out the cache in
# pages, so a limit above what the prompts need costs nothing, while a context that does not fit would end the start.
FITS_IN_MEMORY = -1
_FULL_LENGTH_SEQUENCES = 64
_LARGEST_SHARE_OF_MEMORY = 0.4
_FEW_CORES = 4
_BINDING = "VLLM_CPU_OMP_THREADS_BIND"


def engine_dtype(model_folder: Path, dtype: str) -> torch.dtype:
    """Returns the dtype that vLLM will give a model's weights, by vLLM's own rule for "auto"."""
    from vllm.engine.arg_utils import EngineArgs

    return EngineArgs(model=str(model_folder), dtype=dtype).create_model_config().dtype  # type: ignore[arg-type,return-value]


def cpu_defaults(model: str, options: dict[str, Any]) -> dict[str, Any]:
    """Adds a KV cache size fit for the model where vLLM runs on a CPU, deals out the cores, and preloads tcmalloc.

    vLLM reserves 92% of the memory there and refuses to start if other processes hold more than the
    rest. Room for `_FULL_LENGTH_SEQUENCES` sequences of full length serves a small machine as well. By itself it gives
    each rank of tensor parallelism a NUMA node, and fails where there are fewer nodes; and it keeps a core of each for
    its scheduler, which is half of a machine with two. OMP_NUM_THREADS or vLLM's own variables overrule what is chosen
    here.

    Args:
        model: the model's folder or hub id.
        options: arguments for `vllm.LLM`; any that sizes the cache is left to the user.
    """
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return options
    ranks = int(options.get("tensor_parallel_size") or 1)
    cores = physical_cores()
    few = len(cores) <= _FEW_CORES * ranks and "OMP_NUM_THREADS" not in os.environ
    if few or ranks > _numa_nodes():
        os.environ.setdefault(_BINDING, core_shares(cores, ranks))
    if preloads := with_tcmalloc(os.environ.get("LD_PRELOAD", "")):
        os.environ["LD_PRELOAD"] = preloads
    sized = {"kv_cache_memory_bytes", "gpu_memory_utilization"} & options.keys()
    if sized or "VLLM_CPU_KVCACHE_SPACE" in os.environ:
        return options
    config = Path(model) / "config.json"
    if not config.is_file():
        return options
    wanted = _FULL_LENGTH_SEQUENCES * _bytes_per_sequence(json.loads(config.read_text(encoding="utf-8")))
    return {"kv_cache_memory_bytes": min(wanted, int(_available_bytes() * _LARGEST_SHARE_OF_MEMORY))} | options


def with_tcmalloc(preloaded: str) -> str:
    """Returns what processes started from here preload: the same, and tcmalloc if the system has it.

    `PEFT_EVAL_TCMALLOC=0` leaves it out.

    Args:
        preloaded: the value of LD_PRELOAD.
    """
    from ctypes.util import find_library

    unwanted = os.environ.get("PEFT_EVAL_TCMALLOC") == "0"
    if unwanted or "tcmalloc" in preloaded or not sys.platform.startswith("linux"):
        return preloaded
    found = find_library("tcmalloc_minimal") or find_library("tcmalloc")
    return ":".join(part for part in (found, preloaded) if part)


def physical_cores() -> list[int]:
    """Returns a number for each physical core that this process may use, one of its logical cores, ascending."""
    from vllm.utils.cpu_resource_utils import get_allowed_cpu_list

    return sorted({cpu.physical_core: cpu.id for cpu in get_allowed_cpu_list()}.values())


def core_shares(cores: Sequence[int], ranks: int) -> str:
    """Returns which cores each rank is bound to, as vLLM reads it: `0,1|2,3`; without enough of them, ranks share."""
    size = max(1, len(cores) // ranks)
    shares = [cores[rank * size % len(cores) :][:size] for rank in range(ranks)]
    return "|".join(",".join(map(str, share)) for share in shares)


def _numa_nodes() -> int:
    return len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1


def _bytes_per_sequence(config: dict[str, Any]) -> int:
    text = config.get("text_config") or config
    heads = text.get("num_attention_heads") or text.get("n_head") or 1
    head_dim = text.get("head_dim") or (text.get("hidden_size") or text.get("n_embd") or 1) // heads
    kv_heads = text.get("num_key_value_heads") or heads
    layers = text.get("num_hidden_layers") or text.get("n_layer") or 1
    tokens = text.get("max_position_embeddings") or text.get("n_positions") or 2048
    widest_element_bytes = 4
    return 2 * layers * kv_heads * head_dim * tokens * widest_element_bytes


def _available_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
