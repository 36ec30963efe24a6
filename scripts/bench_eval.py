"""Evaluating many checkpoints of one base: one engine with swapped weights, against one run of lm-eval for each.

    python scripts/bench_eval.py --base DIR --superni DIR [--checkpoints 8] [--only ours,stock,hf,growth,instances]

Makes LoRA adapters with random weights (rank 16, all linear layers) for a base, or for a random Llama of about 110M
parameters (`--base random-110m`, with the tokenizer of --tokenizer), and evaluates them on 400 SuperNI instances
(4 categories, 100 each, definition only), greedy:

- ours: `peft-eval eval --checkpoint A --checkpoint B ...`, in one process;
- stock: for each, `lm_eval --model vllm --model_args pretrained=BASE,lora_local_path=A`, without peft-eval's hook;
- hf: for each, `lm_eval --model hf --model_args pretrained=BASE,peft=A`, without the hook, at --hf-batch-size.

Every number is wall time of whole processes, from the command line to its end. `--peer-runs N` times N of a peer's
runs; the others are then taken to last as long as their mean, which needs --extrapolate and is said wherever it shows.
`growth` times ours with 1, 2, 4, 8 and 16 checkpoints at --growth-limit instances a category and fits a line,
`instances` 4 checkpoints with more and more instances of all categories and 8 new tokens each.
Prints ours, the peer and the ratio, compares the answers, and adds to the JSON file, so that it can be run in pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench_serving import write_adapter, write_base

ROOT = Path(__file__).parent.parent
CATEGORIES = ("title_generation", "question_rewriting", "textual_entailment", "data_to_text")
GROWTH = (1, 2, 4, 8, 16)
ALL = 1_000_000
INSTANCE_LIMITS = (25, 50, 100, 200, ALL)
INSTANCES_OF = 4
WANTED = {"small": {"stock": 6.0, "hf": 2.0}, "large": {"stock": 4.0, "hf": 1.3}}
WANTED_SWAP_SHARE = 1 / 20
# lm-eval's own command as it is installed, but for vLLM's CPU build, whose distribution it does not find by itself.
STOCK = (
    "import sys; from peft_eval.harness.cpu_distribution import install_finder; install_finder(); "
    "from lm_eval.__main__ import cli_evaluate; sys.argv[0] = 'lm_eval'; cli_evaluate()"
)


def make_checkpoints(options: argparse.Namespace, count: int) -> tuple[Path, list[Path]]:
    """Returns the base and `count` adapters of it, made where they are not there yet."""
    options.work.mkdir(parents=True, exist_ok=True)
    base = Path(options.base)
    if options.base == "random-110m":
        base = options.work / "base"
        if not base.exists():
            write_base(base, vocabulary=json.loads((options.tokenizer / "config.json").read_text())["vocab_size"])
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(options.tokenizer / name, base / name)
    adapters = [options.work / f"lora-{number:02}" for number in range(count)]
    for number, adapter in enumerate(adapters):
        if not adapter.exists():
            write_adapter(base, adapter, options.rank, seed=number, scale=options.scale)
    return base.resolve(), adapters


def tasks_of(limit: int) -> list[str]:
    """Returns lm-eval's arguments for the tasks."""
    return ["--tasks", ",".join(f"superni_unseen_def_{name}" for name in CATEGORIES), "--limit", str(limit)]


def timed(command: list[str], output: Path, *, hook: bool) -> float:
    """Runs a command and returns its wall time in seconds; its output goes to a file beside its results."""
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    environment = {**os.environ, "PEFT_EVAL_AUTOLOAD": str(int(hook)), "HF_HUB_OFFLINE": "1"}
    with output.with_suffix(".log").open("w") as log:
        started = time.perf_counter()
        done = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}\n{output.with_suffix('.log').read_text()[-3000:]}")
    return seconds


def engine_settings(options: argparse.Namespace) -> list[str]:
    """Returns what ours and stock vLLM are both told."""
    return [f"dtype={options.dtype}", f"enforce_eager={not options.compiled}"]


def run_ours(options: argparse.Namespace, adapters: list[Path], tasks: list[str], name: str) -> dict[str, Any]:
    """Times our one process over all adapters."""
    output = options.work / "results" / name
    chosen = [part for adapter in adapters for part in ("--checkpoint", str(adapter))]
    given = [part for one in engine_settings(options) for part in ("--model-args", one)]
    seconds = timed(
        [sys.executable, "-m", "peft_eval.cli.main", "eval", *chosen, "--no-base", "--no-answers", *given,
         "--metadata", f"superni={options.superni}", "--metadata", "superni_partial=true",
         "--output", str(output), *tasks],
        output, hook=False,
    )  # fmt: skip
    records = [read_results(output, adapter)["config"]["peft_eval"] for adapter in adapters]
    engine = [record["engine"] for record in records if "engine" in record]  # one checkpoint is a run of lm-eval's own
    starts = [one["seconds"] for one in engine if one["how"] == "start"]
    swaps = [one["seconds"] for one in engine if one["how"] == "swap"]
    return {"seconds": seconds, "starts": starts, "swaps": swaps, "checkpoints": len(adapters)}


def run_peer(kind: str, options: argparse.Namespace, base: Path, adapters: list[Path]) -> dict[str, Any]:
    """Times one run of stock lm-eval for each adapter."""
    seconds = []
    for adapter in adapters[: options.peer_runs or len(adapters)]:
        output = options.work / "results" / kind / adapter.name
        if kind == "stock":
            given = ["--model", "vllm", "--batch_size", "auto", "--model_args",
                     ",".join([f"pretrained={base}", f"lora_local_path={adapter}", f"max_lora_rank={options.rank}",
                               f"kv_cache_memory_bytes={1 << 30}", *engine_settings(options)])]  # fmt: skip
        else:
            given = ["--model", "hf", "--device", "cpu", "--batch_size", str(options.hf_batch_size), "--model_args",
                     f"pretrained={base},peft={adapter},dtype={options.dtype}"]  # fmt: skip
        seconds.append(
            timed(
                [sys.executable, "-c", STOCK, *given, "--include_path", str(ROOT / "tasks" / "superni"),
                 "--metadata", f"superni={options.superni}", "superni_partial=true",
                 "--output_path", str(output), "--log_samples", *tasks_of(options.limit)],
                output, hook=False,
            )
        )  # fmt: skip
        print(f"  {kind} {adapter.name}: {seconds[-1]:.1f} s", flush=True)
    whole = statistics.mean(seconds) * len(adapters)
    extrapolated = len(seconds) < len(adapters)
    if extrapolated and not options.extrapolate:
        raise SystemExit("--peer-runs below --checkpoints needs --extrapolate")
    return {"seconds": whole, "runs": seconds, "extrapolated": extrapolated}


def read_results(output: Path, adapter: Path) -> dict[str, Any]:
    """Returns lm-eval's results of one adapter."""
    found = [path for path in output.rglob("results_*.json") if _is_of(path, output, adapter)]
    return json.loads(max(found, key=lambda path: path.stat().st_mtime).read_text(encoding="utf-8"))


def answers(output: Path, adapter: Path) -> dict[tuple[str, int], str]:
    """Returns one adapter's answers by task and document."""
    found: dict[tuple[str, int], str] = {}
    for path in output.rglob("samples_*.jsonl"):
        if _is_of(path, output, adapter):
            for line in path.read_text(encoding="utf-8").splitlines():
                sample = json.loads(line)
                found[path.name.rsplit("_", 1)[0], sample["doc_id"]] = sample["resps"][0][0]
    return found


def _is_of(path: Path, output: Path, adapter: Path) -> bool:
    """Tells whether a file is an adapter's: a peer's folder is that of one adapter, ours has a folder for each."""
    return output.name == adapter.name or path.parent.name.endswith(adapter.name)


def compare(options: argparse.Namespace, kind: str, adapters: list[Path]) -> dict[str, Any]:
    """Counts equal answers of ours and a peer's, and takes the largest difference of any score."""
    same = total = 0
    gaps = []
    for adapter in adapters[: options.peer_runs or len(adapters)]:
        places = options.work / "results" / "ours", options.work / "results" / kind / adapter.name
        ours, theirs = (answers(place, adapter) for place in places)
        same += sum(ours[key] == theirs[key] for key in ours)
        total += len(ours)
        left, right = (read_results(place, adapter)["results"] for place in places)
        gaps += [
            abs(left[task][metric] - right[task][metric])
            for task in left
            for metric in left[task]
            if "," in metric and "_stderr" not in metric and isinstance(left[task][metric], float)
        ]
    return {"equal_answers": same, "answers": total, "largest_score_difference": max(gaps)}


def report(record: dict[str, Any], options: argparse.Namespace) -> None:
    """Prints ours, the peers and the ratios."""
    ours = record.get("ours")
    wanted = WANTED["large" if options.base == "random-110m" else "small"]
    if ours:
        count = ours["checkpoints"]
        start = f", engine start {ours['starts'][0]:.1f} s" if ours["starts"] else ""
        print(f"ours: {count} checkpoints in {ours['seconds']:.1f} s{start}")
        if ours["swaps"]:
            swap = statistics.median(ours["swaps"])
            share = swap / ours["starts"][0]
            verdict = "" if share < WANTED_SWAP_SHARE else "   ABOVE 1/20"
            print(f"swap: median {swap:.3f} s, {share:.4f} of an engine start{verdict}")
    for kind in ("stock", "hf"):
        if ours and kind in record:
            peer = record[kind]
            ratio = record[kind]["ratio"] = peer["seconds"] / ours["seconds"]
            how = f" (extrapolated from {len(peer['runs'])} runs)" if peer["extrapolated"] else ""
            verdict = "" if ratio >= wanted[kind] else "   BELOW"
            print(f"{kind}: {peer['seconds']:.1f} s{how}; ratio {ratio:.2f} (at least {wanted[kind]}){verdict}")
            print(f"  {peer['compared']}")
    for name, unit in (("growth", "checkpoint"), ("instances", "instance")):
        if name in record:
            line = record[name]
            print(f"{name}: " + ", ".join(f"{count}: {seconds:.1f} s" for count, seconds in line["seconds"].items()))
            print(
                f"  a line of {line['slope']:.4g} s per {unit} + {line['start']:.1f} s, "
                f"largest distance from it {line['largest_distance']:.1f} s"
            )


def grow(options: argparse.Namespace, adapters: list[Path]) -> dict[str, Any]:
    """Times ours with more and more checkpoints."""
    seconds = {}
    for count in GROWTH[: options.growth_steps]:
        run = run_ours(options, adapters[:count], tasks_of(options.growth_limit), f"growth-{count}")
        seconds[str(count)] = run["seconds"]
        print(f"  {count} checkpoints: {run['seconds']:.1f} s", flush=True)
    return {**line_through(seconds), "limit": options.growth_limit}


def grow_in_instances(options: argparse.Namespace, adapters: list[Path]) -> dict[str, Any]:
    """Times ours with more and more questions."""
    seconds = {}
    for limit in INSTANCE_LIMITS:
        tasks = ["--tasks", "superni_unseen_def", "--limit", str(limit), "--gen_kwargs", "max_gen_toks=8"]
        name = f"instances-{limit}"
        run = run_ours(options, adapters[:INSTANCES_OF], tasks, name)
        asked = [
            read_results(options.work / "results" / name, adapter)["n-samples"] for adapter in adapters[:INSTANCES_OF]
        ]
        count = sum(one["effective"] for samples in asked for one in samples.values())
        seconds[str(count)] = run["seconds"]
        print(f"  {count} instances: {run['seconds']:.1f} s", flush=True)
    return line_through(seconds)


def line_through(seconds: dict[str, float]) -> dict[str, Any]:
    """Fits a line to times by size."""
    slope, start = statistics.linear_regression([int(count) for count in seconds], list(seconds.values()))
    away = max(abs(value - start - slope * int(count)) for count, value in seconds.items())
    return {"seconds": seconds, "slope": slope, "start": start, "largest_distance": away}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="random-110m", help="a folder, or random-110m")
    parser.add_argument("--tokenizer", type=Path, help="folder whose tokenizer random-110m gets")
    parser.add_argument("--superni", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("bench_eval"), help="folder for adapters and results")
    parser.add_argument("--checkpoints", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--scale", type=float, default=0.02, help="standard deviation of the adapters' weights")
    parser.add_argument("--limit", type=int, default=100, help="instances of each of the 4 categories")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--compiled", action="store_true", help="let vLLM compile, ours and stock")
    parser.add_argument("--hf-batch-size", type=int, default=64)
    parser.add_argument("--only", default="ours,stock,hf")
    parser.add_argument("--peer-runs", type=int, help="time so many runs of each peer")
    parser.add_argument("--extrapolate", action="store_true", help="take the others to last as long")
    parser.add_argument("--growth-limit", type=int, default=5)
    parser.add_argument("--growth-steps", type=int, default=len(GROWTH))
    parser.add_argument("--output", type=Path, default=Path("bench_eval.json"))
    options = parser.parse_args()
    only = options.only.split(",")
    record: dict[str, Any] = json.loads(options.output.read_text()) if options.output.exists() else {}
    count = max(options.checkpoints, GROWTH[options.growth_steps - 1] if "growth" in only else 0)
    base, adapters = make_checkpoints(options, count)
    compared = adapters[: options.checkpoints]
    if "ours" in only:
        record["ours"] = run_ours(options, compared, tasks_of(options.limit), "ours")
        keep(record, options)
    for kind in ("stock", "hf"):
        if kind in only:
            record[kind] = run_peer(kind, options, base, compared)
            keep(record, options)
            record[kind]["compared"] = compare(options, kind, compared)
    if "growth" in only:
        record["growth"] = grow(options, adapters)
    if "instances" in only:
        record["instances"] = grow_in_instances(options, adapters)
    keep(record, options)
    report(record, options)


def keep(record: dict[str, Any], options: argparse.Namespace) -> None:
    """Writes what was measured so far."""
    record["options"] = {key: str(value) for key, value in vars(options).items()}
    options.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
