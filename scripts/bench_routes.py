"""Serving by each route in vLLM, against the plain base in the same run: tokens per second, or exactness with --check.

    python scripts/bench_routes.py [--methods lora,adapter,compacter,prompt_tuning] [--base zoo:base] [--repeats 5]
    python scripts/bench_routes.py --check [--methods all]

Makes a random Llama of about 110M parameters in bfloat16 (or takes --base), trains nothing, but gives each method's
adapter weights that are not zero. One engine serves the base, a second one each method in turn; both stay up and answer
64 prompts with 64 new tokens by turns, so that a change in the machine's load meets both. Where a method puts virtual
tokens before a prompt, the base's prompts are longer by as many. Prints ours, base and the median of the ratios; JSON.

--check compares greedy answers in float32 with those of transformers and peft: identical token ids, or a first
difference at two logits at most 1e-4 apart. `--methods all` takes every installed method that has a route into vLLM.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_serving import write_base

PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 64, 64, 64
WANTED = {"merge": 0.97, "wrapped": 0.90, "prompt": 0.85}
KV_CACHE_BYTES = 1 << 30


def write_checkpoint(method_name: str, base: Path, folder: Path) -> None:
    """Writes a method's adapter at its own defaults, every trained weight moved off its start."""
    import torch
    from transformers import AutoModelForCausalLM

    from peft_eval.methods.tuner import register_all
    from peft_eval.plugins import methods, pick

    register_all()
    torch.manual_seed(1)
    method = pick("method", method_name, methods(), place="--methods")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = method.prepare(model, method.fit(model, method.options()), base_id=str(base))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn_like(parameter)
    adapted.save_pretrained(str(folder))


def start(base: Path, route_engine: dict[str, Any], options: argparse.Namespace, dtype: str) -> Any:
    """Starts an engine in a process of its own."""
    from vllm import LLM

    from peft_eval.serving.loader import with_route

    arguments = {
        "model": str(base),
        "dtype": dtype,
        "enforce_eager": not options.compiled,
        "kv_cache_memory_bytes": KV_CACHE_BYTES,
        "max_model_len": 2 * (PROMPT_TOKENS + NEW_TOKENS),
    }
    return LLM(**with_route(arguments, route_engine))


def stop(engine: Any) -> None:
    """Ends an engine's process."""
    engine.llm_engine.engine_core.shutdown()


def random_prompts(vocabulary: int, tokens: int, seed: int) -> list[list[int]]:
    """Returns prompts that no prefix cache has seen."""
    draw = random.Random(seed)
    return [[draw.randrange(3, vocabulary) for _ in range(tokens)] for _ in range(PROMPTS)]


def answers(engine: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Generates greedily, past any end of text."""
    from vllm import SamplingParams, TokensPrompt

    sampling = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False)
    outputs = engine.generate([TokensPrompt(prompt_token_ids=ids) for ids in prompts], sampling, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def tokens_per_second(engine: Any, prompts: list[list[int]]) -> float:
    """Times one batch."""
    started = time.perf_counter()
    generated = sum(len(answer) for answer in answers(engine, prompts))
    return generated / (time.perf_counter() - started)


def compare_speed(base_engine: Any, base: Path, folder: Path, vocabulary: int, options: argparse.Namespace) -> Any:
    """Times one method and the base by turns."""
    from peft_eval.serving.route import choose_route
    from peft_eval.serving.virtual_tokens import with_prompt

    route = choose_route(str(folder), pretrained=str(base))
    if route.backend != "vllm":
        return {"route": "hf", "reason": route.reason}
    engine = start(base, route.engine, options, options.dtype)
    virtual = len(route.prompt_ids)
    ours, theirs = [], []
    for turn in range(-1, options.repeats):
        prompts = with_prompt(random_prompts(vocabulary, PROMPT_TOKENS, 2 * turn), route.prompt_ids)
        longer = random_prompts(vocabulary, PROMPT_TOKENS + virtual, 2 * turn + 1)
        both = [(engine, prompts, ours), (base_engine, longer, theirs)]
        for one, batch, rates in both if turn % 2 else both[::-1]:
            rate = tokens_per_second(one, batch)
            if turn >= 0:  # the first turn warms up
                rates.append(rate)
    stop(engine)
    return {
        "route": route.name,
        "virtual_tokens": virtual,
        "ours": statistics.median(ours),
        "base": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "wanted": WANTED[route.name],
        "runs": {"ours": ours, "base": theirs},
    }


def compare_answers(base: Path, folder: Path, vocabulary: int, options: argparse.Namespace) -> Any:
    """Holds one method's greedy answers in float32 against peft's."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from peft_eval.serving.agreement import greedy_agreement
    from peft_eval.serving.route import choose_route
    from peft_eval.serving.virtual_tokens import with_prompt

    route = choose_route(str(folder), pretrained=str(base))
    if route.backend != "vllm":
        return {"route": "hf", "reason": route.reason}
    engine = start(base, route.engine, options, "float32")
    prompts = random_prompts(vocabulary, PROMPT_TOKENS, 0)
    served = answers(engine, with_prompt(prompts, route.prompt_ids))
    stop(engine)
    reference = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if route.name != "full":
        reference = PeftModel.from_pretrained(reference, str(folder)).eval()
    found = greedy_agreement(reference, prompts, served, vocabulary=vocabulary)
    return {"route": route.name, **asdict(found), "holds": found.holds}


def line(name: str, found: dict[str, Any]) -> str:
    """Returns one line of the report."""
    if found["route"] == "hf":
        return f"{name:24} hf       not measured: {found['reason']}"
    if "ratio" in found:
        met = "" if found["ratio"] >= found["wanted"] else "   BELOW"
        return (
            f"{name:24} {found['route']:8} {found['ours']:8.1f} tokens/s   base {found['base']:8.1f}   "
            f"ratio {found['ratio']:.3f} (at least {found['wanted']}){met}"
        )
    verdict = "" if found["holds"] else "   DIFFERS"
    return (
        f"{name:24} {found['route']:8} {found['identical']} of {found['answers']} answers identical, "
        f"{found['ties']} first differ at a tie, largest gap {found['largest_gap']:.1e}{verdict}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="lora,adapter,compacter,prompt_tuning", help="names, or all")
    parser.add_argument("--base", help="a base of your own: folder, zoo:NAME or hub id")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns of each engine")
    parser.add_argument("--compiled", action="store_true", help="let vLLM compile")
    parser.add_argument("--check", action="store_true", help="compare answers instead of speed")
    parser.add_argument("--output", type=Path, default=Path("bench_routes.json"))
    options = parser.parse_args()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

    from peft_eval.checkpoint.location import resolve_folder
    from peft_eval.plugins import methods

    names = options.methods.split(",")
    if names == ["all"]:
        names = [name for name, method in methods().items() if method.kind == "adapter"]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        if options.base:
            base = resolve_folder(options.base)
        else:
            write_base(base)
        vocabulary = json.loads((base / "config.json").read_text(encoding="utf-8"))["vocab_size"]
        base_engine = None if options.check else start(base, {}, options, options.dtype)
        for name in names:
            folder = Path(scratch) / name
            write_checkpoint(name, base, folder)
            if options.check:
                results[name] = compare_answers(base, folder, vocabulary, options)
            else:
                results[name] = compare_speed(base_engine, base, folder, vocabulary, options)
            print(line(name, results[name]), flush=True)
        if base_engine is not None:
            stop(base_engine)
    record = {"options": {key: str(value) for key, value in vars(options).items()}, "results": results}
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.check and not all(found.get("holds", True) for found in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
