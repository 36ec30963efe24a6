"""Weights put into vLLM's model in place of others: every kernel computes with them. No engine is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import linear

from tests.adapters import write_adapter
from tests.tiny import tiny_llama

pytest.importorskip("vllm", reason="vLLM is not installed")

ROWS = 9
ADAPTERS = {
    "lora": peft.LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"),
    "qv": peft.LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"]),
    "prompt": peft.PromptTuningConfig(num_virtual_tokens=7),
}
# What is put in, and how many of vLLM's modules are loaded again: None is all.
TURNS = [("base", 0), ("lora", 8), ("qv", 8), ("full", None), ("lora", None), ("prompt", None), ("base", None),
         ("qv", 2), ("base", 2)]  # fmt: skip
PACKED = {
    "self_attn.qkv_proj": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "self_attn.o_proj": ["self_attn.o_proj"],
    "mlp.gate_up_proj": ["mlp.gate_proj", "mlp.up_proj"],
    "mlp.down_proj": ["mlp.down_proj"],
}


def test_each_kernel_computes_with_the_weights_that_were_put_in(tmp_path: Path) -> None:
    # In a process of its own, whose distributed environment ends with it.
    program = "import sys; from tests.serving.test_swapped_weights import take_turns; take_turns(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def take_turns(scratch: str) -> None:
    from peft_eval.serving.loader import Loading
    from peft_eval.serving.swapping import _put_in

    folder = Path(scratch)
    tiny_llama(folder / "base")
    tiny_llama(folder / "full", seed=9)
    for name, config in ADAPTERS.items():
        write_adapter(folder / "base", folder / name, config, scale=0.2)
    model, config = vllm_model(folder / "base")
    for name, modules in TURNS:
        weights = folder / (name if name == "full" else "base")
        route = "prompt" if name == "prompt" else "merge" if name in ADAPTERS else "plain"
        loading = Loading(route, str(folder / name) if name in ADAPTERS else None, ROWS)
        assert _put_in(model, config, weights, loading) == modules, name
        check(model, expected(folder, name), name)


def vllm_model(base: Path) -> tuple[Any, Any]:
    """Returns vLLM's own model of a base, with room for virtual tokens, and its configuration."""
    from vllm.config import set_current_vllm_config
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model

    from peft_eval.serving.loader import Loading, register

    register()
    config = EngineArgs(
        model=str(base), enforce_eager=True, dtype="float32", load_format="peft_eval", kv_cache_memory_bytes=1 << 26,
        model_loader_extra_config=Loading(virtual_rows=ROWS).as_extra(), hf_overrides={"vocab_size": 384 + ROWS},
    ).create_engine_config()  # fmt: skip
    if not torch.accelerator.is_available():
        torch.accelerator.empty_cache = lambda: None  # as vLLM's CPU worker does
    with set_current_vllm_config(config):
        init_distributed_environment(1, 0, f"file://{base}/distributed", 0, "gloo")
        ensure_model_parallel_initialized(1, 1)
        return get_model(vllm_config=config), config


def expected(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Returns the tensors that the model should compute with."""
    from peft_eval.merging.merger import AdapterMerger

    tensors = load_file(folder / ("full" if name == "full" else "base") / "model.safetensors")
    if name in ("lora", "qv"):
        return dict(AdapterMerger(folder / name, folder / "base").merged(tensors.items()))
    return tensors


def check(model: Any, tensors: dict[str, torch.Tensor], name: str) -> None:
    """Compares what vLLM's kernels compute with a product of the tensors."""

    def compare(module: Any, weight: torch.Tensor) -> None:
        inputs = torch.randn(5, weight.shape[1])
        found = module.quant_method.apply(module, inputs)[:, : len(weight)]
        torch.testing.assert_close(
            found, linear(inputs, weight), atol=1e-4, rtol=1e-4, msg=lambda text: f"{name}: {text}"
        )

    for number, layer in enumerate(model.model.layers):
        for place, parts in PACKED.items():
            weight = torch.cat([tensors[f"model.layers.{number}.{part}.weight"] for part in parts])
            compare(layer.get_submodule(place), weight)
    embeddings = tensors["model.embed_tokens.weight"]
    compare(model.lm_head, embeddings)  # tied: packed apart from the embeddings, of which the files hold one
    assert torch.equal(model.model.embed_tokens.weight[: len(embeddings)], embeddings)
