"""What an engine is given on a CPU: cores, room for its cache, tcmalloc."""

import ctypes.util
import json
import os

import pytest

from peft_eval.serving import engine
from peft_eval.serving.engine import core_shares, cpu_defaults, with_tcmalloc


@pytest.mark.parametrize(
    ("cores", "ranks", "shares"),
    [
        ([0, 1], 2, "0|1"),
        ([0, 1, 2, 3, 4], 2, "0,1|2,3"),
        ([4, 5, 6, 7], 4, "4|5|6|7"),
        ([0, 1], 4, "0|1|0|1"),
        ([3], 2, "3|3"),
    ],
)
def test_cores_of_each_rank(cores, ranks, shares):
    assert core_shares(cores, ranks) == shares


@pytest.mark.parametrize(
    ("system_has", "preloaded", "wanted"),
    [
        ({"tcmalloc_minimal": "libtcmalloc_minimal.so.4"}, "", "libtcmalloc_minimal.so.4"),
        ({"tcmalloc": "libtcmalloc.so.4"}, "own.so", "libtcmalloc.so.4:own.so"),
        ({"tcmalloc": "libtcmalloc.so.4"}, "/opt/libtcmalloc.so", "/opt/libtcmalloc.so"),
        ({}, "own.so", "own.so"),
        ({}, "", ""),
    ],
)
def test_tcmalloc_is_preloaded_where_the_system_has_it(monkeypatch, system_has, preloaded, wanted):
    monkeypatch.setattr(ctypes.util, "find_library", system_has.get)
    assert with_tcmalloc(preloaded) == wanted
    monkeypatch.setenv("PEFT_EVAL_TCMALLOC", "0")
    assert with_tcmalloc(preloaded) == preloaded


@pytest.mark.parametrize(
    ("cores", "variables", "ranks", "bound"),
    [
        ([0, 1], {}, 1, "0,1"),  # by itself vLLM would compute on one of the two
        ([0, 1], {"OMP_NUM_THREADS": "1"}, 1, None),
        ([0, 1], {"VLLM_CPU_OMP_THREADS_BIND": "1"}, 1, "1"),
        (list(range(16)), {}, 1, None),
        (list(range(16)), {"OMP_NUM_THREADS": "1"}, 2, "0,1,2,3,4,5,6,7|8,9,10,11,12,13,14,15"),
    ],
)
def test_an_engine_computes_on_all_of_few_cores(monkeypatch, tmp_path, cores, variables, ranks, bound):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        pytest.skip("vLLM runs on an accelerator here")
    for name in ("OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND", "LD_PRELOAD"):
        monkeypatch.setenv(name, "")  # so that what the call sets is taken back
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(engine, "physical_cores", lambda: cores)
    monkeypatch.setattr(engine, "_numa_nodes", lambda: 1)
    config = {"num_attention_heads": 2, "hidden_size": 8, "num_hidden_layers": 3, "max_position_embeddings": 16}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = cpu_defaults(str(tmp_path), {"tensor_parallel_size": ranks})
    assert os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == bound
    assert found["kv_cache_memory_bytes"] == 64 * 2 * 3 * 2 * 4 * 16 * 4  # sequences, K and V, layers, heads, size
