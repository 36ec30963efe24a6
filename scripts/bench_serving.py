"""Serving a LoRA checkpoint: merged while loading, against stock lm-eval's native LoRA and against the plain base.

    python scripts/bench_serving.py [--rank 16] [--pairs 2] [--output bench_serving.json]

Makes a random Llama of about 110M parameters in bfloat16 and a LoRA on all its linear layers, then measures, each in
a process of its own and in turn: generated tokens per second (64 prompts, 64 new tokens each) and seconds from
the constructor to a ready engine. Bytes are what the engine's processes wrote to disk by the kernel's count, and the
largest peak of resident memory among them when the engine is ready. Prints ours, the peer and the ratio, writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 64, 64, 64
VOCABULARY = 8192


def write_base(folder: Path, vocabulary: int = VOCABULARY) -> None:
    """Writes a 14-layer Llama of width 768 and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=768, intermediate_size=2304, num_hidden_layers=14, num_attention_heads=12,
        num_key_value_heads=12, max_position_embeddings=1024, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    print(f"base: {model.num_parameters() / 1e6:.0f}M parameters, bfloat16")
    model.save_pretrained(str(folder))
    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(vocabulary)}, unk_token="w2"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="w0", eos_token="w1").save_pretrained(str(folder))


def write_adapter(base: Path, folder: Path, rank: int, *, seed: int = 1, scale: float = 0.02) -> None:
    """Writes a LoRA on all linear layers whose weights are not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=scale)
    model.save_pretrained(str(folder))


def _bytes_written() -> int:
    import psutil

    me = psutil.Process()
    return sum(process.io_counters().write_bytes for process in [me, *me.children(recursive=True)])


def _peak_bytes() -> int:
    """Returns the largest peak of resident memory among the engine's processes (VmHWM, in kB)."""
    import psutil

    peaks = []
    for process in psutil.Process().children(recursive=True):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peaks.append(int(line.split()[1]) * 1024)
    return max(peaks)


def measure(kind: str, base: str, adapter: str, rank: int, eager: bool) -> dict[str, Any]:
    """Starts one engine through lm-eval's model class and times it; runs in a process of its own."""
    import random

    from vllm import SamplingParams

    from peft_eval.harness.cpu_distribution import install_finder

    install_finder()
    common = {"enforce_eager": eager, "kv_cache_memory_bytes": 1 << 30, "dtype": "bfloat16", "batch_size": 1}
    before = _bytes_written()
    if kind == "merged":
        from peft_eval.harness.vllm_model import PeftVLLM
        from peft_eval.serving.route import choose_route

        engine = choose_route(adapter, pretrained=base).engine
        started = time.perf_counter()
        model: Any = PeftVLLM(pretrained=base, **engine, **common)
    else:
        from lm_eval.models.vllm_causallms import VLLM as Stock

        native = {"lora_local_path": adapter, "max_lora_rank": rank} if kind == "native" else {}
        started = time.perf_counter()
        model = Stock(pretrained=base, **native, **common)
    start_seconds = time.perf_counter() - started
    peak_bytes = _peak_bytes()
    draw = random.Random(0)
    prompts = [[draw.randrange(3, VOCABULARY) for _ in range(PROMPT_TOKENS)] for _ in range(PROMPTS)]
    sampling = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True)
    model._model_generate(prompts[:8], generate=True, sampling_params=sampling)
    rates = []
    for turn in range(2):
        fresh = [[*prompt[:-1], 3 + turn] for prompt in prompts]
        started = time.perf_counter()
        outputs = model._model_generate(fresh, generate=True, sampling_params=sampling)
        rates.append(sum(len(output.outputs[0].token_ids) for output in outputs) / (time.perf_counter() - started))
    return {
        "tokens_per_second": statistics.median(rates),
        "start_seconds": start_seconds,
        "bytes_written": _bytes_written() - before,
        "peak_bytes": peak_bytes,
        "answers": [list(output.outputs[0].token_ids) for output in outputs],
    }


def in_own_process(kind: str, base: Path, adapter: Path, rank: int, eager: bool) -> dict[str, Any]:
    """Runs `measure` in a fresh interpreter."""
    command = [sys.executable, __file__, "--child", kind, str(base), str(adapter), str(rank), str(int(eager))]
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "PEFT_EVAL_AUTOLOAD": str(int(kind == "merged"))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"  {kind:7} {result['tokens_per_second']:8.1f} tokens/s   start {result['start_seconds']:6.1f} s   "
        f"{result['bytes_written'] / 1e6:6.2f} MB written   peak {result['peak_bytes'] / 1e6:,.0f} MB",
        flush=True,
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=2, help="how often each kind is started")
    parser.add_argument("--compiled", action="store_true", help="let vLLM compile where it can")
    parser.add_argument("--output", type=Path, default=Path("bench_serving.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base, adapter = Path(scratch) / "base", Path(scratch) / "adapter"
        write_base(base)
        write_adapter(base, adapter, options.rank)
        runs: dict[str, list[dict[str, Any]]] = {"base": [], "merged": [], "native": []}
        for pair in range(options.pairs):
            print(f"turn {pair + 1} of {options.pairs}", flush=True)
            for kind, found in runs.items():
                found.append(in_own_process(kind, base, adapter, options.rank, not options.compiled))
    report(runs, options)


def report(runs: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """Prints ours, the peer and the ratios, and writes all of it."""

    def median_ratio(ours: str, theirs: str, figure: str) -> float:
        return statistics.median(a[figure] / b[figure] for a, b in zip(runs[ours], runs[theirs], strict=True))

    summary = {
        "tokens_per_second": {k: statistics.median(r["tokens_per_second"] for r in v) for k, v in runs.items()},
        "start_seconds": {k: statistics.median(r["start_seconds"] for r in v) for k, v in runs.items()},
        "bytes_written": {k: statistics.median(r["bytes_written"] for r in v) for k, v in runs.items()},
        "peak_bytes": {k: statistics.median(r["peak_bytes"] for r in v) for k, v in runs.items()},
        "merged_over_native": median_ratio("merged", "native", "tokens_per_second"),
        "merged_over_base": median_ratio("merged", "base", "tokens_per_second"),
        "start_over_base": median_ratio("merged", "base", "start_seconds"),
    }
    print(json.dumps(summary, indent=1))
    for found in runs.values():
        for run in found:
            del run["answers"]
    record = {"options": {k: str(v) for k, v in vars(options).items()}, "summary": summary, "runs": runs}
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "--child" in sys.argv:
        kind, base, adapter, rank, eager = sys.argv[2:]
        print(json.dumps(measure(kind, base, adapter, int(rank), eager == "1")))
    else:
        main()
