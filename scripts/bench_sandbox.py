"""Times HumanEval's programs in our sandbox against lm-eval's `code_eval`, and compares their verdicts.

Run: python scripts/bench_sandbox.py DIR [--code-eval FOLDER]   (DIR: HumanEval's folder)

lm-eval's `humaneval` runs programs with `code_eval`, which the `evaluate` library loads from the Hub or from a folder
with its two files: a manager process and a forked process a program, in a pool of threads, and no sandbox.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

from peft_eval.data.human_eval import Problem, read_problems
from peft_eval.sandbox import Limits, choose_backend, run_programs
from peft_eval.sandbox.backend import Backend
from peft_eval.sandbox.containers import DEFAULT_IMAGE
from peft_eval.sandbox.run import usable_cores

LOOP = "    while True: pass\n"
SECONDS = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=20, help="programs a problem")
    parser.add_argument("--failing", type=float, default=0.0, help="share of samples whose function is empty")
    parser.add_argument("--looping", type=float, default=0.0, help="share of samples that never end")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="programs at a time, for both")
    parser.add_argument("--code-eval", default="code_eval", help="the metric's id on the Hub, or a folder that has it")
    parser.add_argument("--backend", default="auto", help="our sandbox: bubblewrap, podman, docker")
    parser.add_argument("--image", default=DEFAULT_IMAGE, help="what containers are made of")
    parser.add_argument("--loaded", action="store_true", help="with torch and transformers loaded, as in lm-eval")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    if arguments.loaded:
        import torch  # noqa: F401
        import transformers
        from transformers import PreTrainedModel  # noqa: F401

        assert transformers
    samples = make_samples(read_problems(arguments.folder), arguments)
    backend = choose_backend(arguments.backend, packages=("numpy",), image=arguments.image)
    metric = load_metric(arguments.code_eval)
    ours, our_seconds = timed(run_ours, samples, arguments.workers, backend)
    peers, peer_seconds = timed(run_peer, samples, arguments.workers, metric)
    figures = {
        "programs": len(samples),
        "failing": arguments.failing,
        "looping": arguments.looping,
        "workers": arguments.workers,
        "cores": usable_cores(),
        "torch_loaded": arguments.loaded,
        "python": platform.python_version(),
        "sandbox": backend.description,
        "our_seconds": round(our_seconds, 2),
        "peer_seconds": round(peer_seconds, 2),
        "peer_to_ours": round(peer_seconds / our_seconds, 2),
        "passed": Counter(ours)[True],
        "verdicts_that_differ": sum(one != other for one, other in zip(ours, peers, strict=True)),
    }
    for name, value in figures.items():
        print(f"{name:22} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def make_samples(problems: list[Problem], arguments: argparse.Namespace) -> list[tuple[Problem, str]]:
    """Returns problems with completions: spread evenly, some empty, some endless, the rest right."""
    failing = round(arguments.failing * arguments.samples)
    looping = round(arguments.looping * arguments.samples)
    completions = ["", LOOP]
    return [
        (
            problem,
            completions[0] if number < failing else completions[1] if number < failing + looping else problem.solution,
        )
        for number in range(arguments.samples)
        for problem in problems
    ]


def load_metric(code_eval: str) -> Any:
    """Returns lm-eval's metric for programs."""
    import evaluate

    os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    return evaluate.load(code_eval)


def timed(run: Any, samples: list[tuple[Problem, str]], workers: int, way: Any) -> tuple[list[bool], float]:
    begun = time.perf_counter()
    verdicts = run(samples, workers, way)
    return verdicts, time.perf_counter() - begun


def run_ours(samples: list[tuple[Problem, str]], workers: int, backend: Backend) -> list[bool]:
    programs = [problem.program(completion) for problem, completion in samples]
    outcomes = run_programs(programs, limits=Limits(seconds=SECONDS), workers=workers, backend=backend)
    return [outcome.passed for outcome in outcomes]


def run_peer(samples: list[tuple[Problem, str]], workers: int, metric: Any) -> list[bool]:
    tests = [f"{problem.test}\ncheck({problem.entry_point})" for problem, _ in samples]
    programs = [[problem.prompt + completion] for problem, completion in samples]
    _, results = metric.compute(references=tests, predictions=programs, k=[1], num_workers=workers, timeout=SECONDS)
    return [bool(results[number][0][1]["passed"]) for number in range(len(samples))]


if __name__ == "__main__":
    main()
