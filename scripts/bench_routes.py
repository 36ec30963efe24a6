"""Serving by each route in vLLM, against the plain base in the same run: tokens per second, or exactness with --check.

    python scripts/bench_routes.py [--methods lora,adapter,compacter,prompt_tuning] [--base zoo:base] [--repeats 5]
    python scripts/bench_routes.py --check [--methods all] [--base zoo:base]
    python scripts/bench_routes.py ... --missing --minutes 7      # go on where the last call stopped

Makes a random Llama of about 110M parameters in bfloat16 (or takes --base), trains nothing, but gives each method's
adapter weights that are not zero. One engine serves the base, a second one a method; both stay up and answer 64
prompts with 64 new tokens by turns, so that a change in the machine's load meets both. Methods that are merged follow
each other in one engine (`reload_weights`); where the graph differs, one is started and warmed up. Where a method puts
virtual tokens before a prompt, the base's prompts are longer by as many. Prints ours, base and the median of the
ratios; JSON.

--check compares greedy answers in float32 with those of transformers and peft: identical token ids, or a first
difference at two logits at most 1e-4 apart. It also says how many answers are not the base's, since an adapter that
changes none would prove nothing. `--methods all` takes every installed method.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench_serving import write_base
from random_adapters import write_checkpoint
from random_bases import write_random_base

from peft_eval.checkpoint.location import resolve_folder
from peft_eval.errors import PeftEvalError
from peft_eval.plugins import methods
from peft_eval.serving.agreement import greedy_agreement
from peft_eval.serving.loader import engine_arguments, with_route
from peft_eval.serving.route import choose_route
from peft_eval.serving.virtual_tokens import with_prompt

PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 64, 64, 64
WANTED = {"merge": 0.97, "full": 0.97, "wrapped": 0.90, "prompt": 0.85}
KV_CACHE_BYTES = 1 << 30


def start(base: Path, route_engine: dict[str, Any], options: argparse.Namespace, dtype: str) -> Any:
    """Starts an engine in a process of its own."""
    from vllm import LLM

    from peft_eval.serving.engine import cpu_defaults

    arguments = {
        "model": str(base),
        "dtype": dtype,
        "enforce_eager": not options.compiled,
        "kv_cache_memory_bytes": KV_CACHE_BYTES,
        "max_model_len": 2 * (PROMPT_TOKENS + NEW_TOKENS),
        "tensor_parallel_size": options.tensor_parallel,
    }
    return LLM(**with_route(cpu_defaults(str(base), arguments), route_engine))


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


class Engines:
    """The engine of the method at hand: one of the same graph is kept and given other weights.

    Args:
        base: the base's folder.
        dtype: of weights and arithmetic.
        scratch: where a link to the adapter being served can be put.
        options: the command's.
    """

    def __init__(self, base: Path, dtype: str, scratch: Path, options: argparse.Namespace):
        self.base, self.dtype, self.options = base, dtype, options
        self.link = scratch / "served"
        self.running: dict[str, Any] = {}
        self.warm = False

    def of(self, route: Any) -> Any:
        """Returns an engine that serves a route."""
        if route.name == "full":
            return self._only("full", route.model_folder, {})
        if route.name != "merge":
            return self._only(str(route.checkpoint.folder), self.base, route.engine)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(route.checkpoint.folder)
        overrides = route.engine.get("hf_overrides", {})
        key = f"merge {json.dumps(overrides)}"
        if key not in self.running:
            arguments = engine_arguments(self.link, "merge", config_overrides=overrides)
            return self._only(key, self.base, arguments)
        self.running[key].collective_rpc("reload_weights")
        self.running[key].reset_prefix_cache()
        self.warm = True
        return self.running[key]

    def _only(self, key: str, model: Path, arguments: dict[str, Any]) -> Any:
        """Starts an engine in the place of the last one that was not to be kept."""
        for other in [name for name in self.running if name != "merge {}"]:
            stop(self.running.pop(other))
        self.running[key] = start(model, arguments, self.options, self.dtype)
        self.warm = False
        return self.running[key]

    def stop(self) -> None:
        """Ends them all."""
        for engine in self.running.values():
            stop(engine)


def compare_speed(route: Any, engines: Engines, base_engine: Any, vocabulary: int, repeats: int) -> dict[str, Any]:
    """Times one method and the base by turns."""
    engine = engines.of(route)
    virtual = len(route.prompt_ids)
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(0 if engines.warm else -1, repeats):
        prompts = with_prompt(random_prompts(vocabulary, PROMPT_TOKENS, 2 * turn), route.prompt_ids)
        longer = random_prompts(vocabulary, PROMPT_TOKENS + virtual, 2 * turn + 1)
        both = [(engine, prompts, ours), (base_engine, longer, theirs)]
        for one, batch, rates in both if turn % 2 else both[::-1]:
            rate = tokens_per_second(one, batch)
            if turn >= 0:  # the first turn warms up
                rates.append(rate)
    return {
        "route": route.name,
        "virtual_tokens": virtual,
        "ours": statistics.median(ours),
        "base": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(ours, theirs, strict=True)),
        "wanted": WANTED[route.name],
        "runs": {"ours": ours, "base": theirs},
    }


def compare_answers(route: Any, engine: Any, base: Path, vocabulary: int) -> dict[str, Any]:
    """Holds one method's greedy answers in float32 against peft's, and against the base's."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    prompts = random_prompts(vocabulary, PROMPT_TOKENS, 0)
    served = answers(engine, with_prompt(prompts, route.prompt_ids))
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    the_bases = greedy_agreement(plain, prompts, served, vocabulary=vocabulary).identical
    if route.name == "full":
        reference: Any = AutoModelForCausalLM.from_pretrained(route.model_folder, dtype=torch.float32)
    else:
        reference = PeftModel.from_pretrained(plain, str(route.checkpoint.folder))
    found = greedy_agreement(reference.eval(), prompts, served, vocabulary=vocabulary)
    changed = PROMPTS - the_bases
    return {"route": route.name, **asdict(found), "not_the_bases": changed, "holds": found.holds and changed > 0}


def line(name: str, found: dict[str, Any]) -> str:
    """Returns one line of the report."""
    if "error" in found:
        return f"{name:24} could not be written: {found['error']}"
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
        f"{found['ties']} first differ at a tie, largest gap {found['largest_gap']:.1e}, "
        f"{found['not_the_bases']} not the base's{verdict}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="lora,adapter,compacter,prompt_tuning", help="names, or all")
    parser.add_argument("--base", help="folder, zoo:NAME, hub id, or random:MODEL_TYPE for a tiny one")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns of each engine")
    parser.add_argument("--compiled", action="store_true", help="let vLLM compile")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="processes that share each layer")
    parser.add_argument("--check", action="store_true", help="compare answers instead of speed")
    parser.add_argument("--output", type=Path, default=Path("bench_routes.json"))
    parser.add_argument("--missing", action="store_true", help="keep what --output holds, and add what it lacks")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further method after so long")
    options = parser.parse_args()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

    names = sorted(methods()) if options.methods == "all" else options.methods.split(",")
    results: dict[str, Any] = {}
    if options.missing and options.output.is_file():
        results = json.loads(options.output.read_text(encoding="utf-8"))["results"]
        names = [name for name in names if name not in results]
    settings = {key: str(value) for key, value in vars(options).items() if key not in ("missing", "minutes")}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        if options.base and options.base.startswith("random:"):
            write_random_base(options.base.removeprefix("random:"), base)
        elif options.base:
            base = resolve_folder(options.base)
        else:
            write_base(base)
        for name, found in run(names, base, Path(scratch), options):
            results[name] = found
            print(line(name, found), flush=True)
            options.output.write_text(json.dumps({"options": settings, "results": results}, indent=1) + "\n")
            if time.monotonic() - started > 60 * options.minutes:
                break
    if options.check and not all(found.get("holds", True) for found in results.values()):
        raise SystemExit(1)


def run(names: list[str], base: Path, scratch: Path, options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Measures method after method, and yields each one's figures."""
    vocabulary = json.loads((base / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    dtype = "float32" if options.check else options.dtype
    base_engine = None if options.check else start(base, {}, options, dtype)
    engines = Engines(base, dtype, scratch, options)
    try:
        for name in names:
            folder = scratch / name
            try:
                # The random bases' own weights are large, so that small changes change no answer.
                write_checkpoint(name, base, folder, scale=0.2 if str(options.base).startswith("random:") else 0.02)
                full = methods()[name].kind == "full"
                route = choose_route(str(folder), pretrained=None if full else str(base))
            except PeftEvalError as error:
                yield name, {"route": "none", "error": str(error)}
                continue
            if route.backend == "hf":
                yield name, {"route": "hf", "reason": route.reason}
            elif options.check:
                yield name, compare_answers(route, engines.of(route), base, vocabulary)
            else:
                yield name, compare_speed(route, engines, base_engine, vocabulary, options.repeats)
            shutil.rmtree(folder)
    finally:
        engines.stop()
        if base_engine is not None:
            stop(base_engine)


if __name__ == "__main__":
    main()
