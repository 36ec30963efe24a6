"""The main job on what the repository itself carries: train a LoRA, evaluate base and adapter, compare. No download.

    make demo            (in an environment that is there already: python scripts/demo.py)

It runs the commands that a user would type, and shows each. Everything goes to runs/demo; a second
run replaces what the first left there and, the seeds being fixed, comes to the same numbers on as many threads.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FOLDER = Path("runs/demo")
ADAPTER = FOLDER / "lora"
BASE = "zoo:base"
SUITE = "mini_unseen"
METRICS = {"exact_match": "exact\nmatch", "rougeL": "\nROUGE-L"}

TRAIN = (
    f"peft-eval train --base {BASE} --method lora --data mini --encoding def_pos2 --output {ADAPTER} --overwrite "
    "--rank 16 --targets all-linear --dropout 0 --learning-rate 2e-3 --max-steps 150"
)
EVALUATE_BASE = f"lm_eval --model vllm --tasks {SUITE} --model_args pretrained={BASE} --output_path {FOLDER / 'base'}"
EVALUATE_ADAPTER = (
    f"lm_eval --model vllm --tasks {SUITE} --model_args peft={ADAPTER} --output_path {FOLDER / 'adapter'}"
)

# The steps' own progress bars stay; what vLLM, lm-eval and transformers tell a developer does not.
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "LMEVAL_LOG_LEVEL": "WARNING",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
}
STEPS = (
    ("train a LoRA on the mini corpus", TRAIN),
    (f"evaluate the base on {SUITE}", EVALUATE_BASE),
    (f"evaluate base + LoRA on {SUITE}", EVALUATE_ADAPTER),
)

Results = dict[str, dict[str, float]]


def main(console: Console) -> int:
    """Runs the steps and prints the comparison; returns the exit code."""
    begun = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    for number, (what, command) in enumerate(STEPS, 1):
        console.rule(f"[bold]{number} of {len(STEPS)}: {what}", align="left")
        console.print(f"$ {command}", style="cyan", highlight=False, soft_wrap=True)
        since = time.monotonic()
        code = run(command)
        if code != 0:
            console.print(failure(what, command, code), style="red", highlight=False, soft_wrap=True)
            return code if code > 0 else 1
        console.print(f"done in {time.monotonic() - since:.0f} s\n", style="dim", highlight=False)
    console.print(comparison(read_results(FOLDER / "base"), read_results(FOLDER / "adapter")))
    took = time.monotonic() - begun
    console.print(
        f"The demo took {took:.0f} s. The adapter is {ADAPTER}; look at it: {BIN / 'peft-eval'} doctor {ADAPTER}",
        soft_wrap=True,
    )
    return 0


def run(command: str) -> int:
    """Runs one of this environment's commands; its output goes straight to the terminal."""
    program, *arguments = shlex.split(command)
    return subprocess.run([BIN / program, *arguments], env={**os.environ, **QUIET}, stdin=subprocess.DEVNULL).returncode


def failure(what: str, command: str, code: int) -> str:
    """Returns what failed and what to do about it."""
    killed = (
        "\nIt was killed, most often for want of memory: end other programs and run make demo again."
        if code < 0
        else ""
    )
    return (
        f"error: could not {what} (exit code {code}); the reason stands above.{killed}\n"
        f"The environment: {BIN / 'peft-eval'} doctor\nThe step with all its messages: {BIN}/{command}"
    )


def read_results(folder: Path) -> Results:
    """Reads lm-eval's newest results JSON below a folder.

    Returns:
        For the group and each of its tasks, each metric and `<metric>_stderr`.
    """
    newest = max(folder.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    raw = json.loads(newest.read_text(encoding="utf-8"))["results"]
    return {
        task: {key.removesuffix(",none"): value for key, value in values.items() if isinstance(value, int | float)}
        for task, values in raw.items()
    }


def comparison(base: Results, adapter: Results) -> Table:
    """Returns the table: each score with its standard error, and what the adapter gained."""
    title = f"{SUITE}: categories the LoRA was not trained on (score±standard error)"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("task", no_wrap=True)
    for heading in METRICS.values():
        for column in (f"{heading}\nbase", "\n\n+ LoRA", "\n\ngain"):
            table.add_column(column, justify="right", no_wrap=True)
    for task in sorted(base, key=lambda name: (name == SUITE, name)):
        cells = [text for metric in METRICS for text in compared(metric, base[task], adapter[task])]
        table.add_row(task.removeprefix(f"{SUITE}_"), *cells, style="bold" if task == SUITE else None)
    return table


def compared(metric: str, base: dict[str, float], adapter: dict[str, float]) -> tuple[str, str, str]:
    """Returns base, adapter and gain of one metric as text."""

    def with_error(scores: dict[str, float]) -> str:
        return f"{scores[metric]:.1f}±{scores[f'{metric}_stderr']:.1f}"

    return with_error(base), with_error(adapter), f"{adapter[metric] - base[metric]:+.1f}"


if __name__ == "__main__":
    os.chdir(ROOT)
    try:
        sys.exit(main(Console()))
    except KeyboardInterrupt:
        sys.exit("stopped; run make demo again to start over")
