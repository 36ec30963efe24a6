"""What the package costs at start-up: every Python process, `peft-eval --help`, and `lm_eval ls tasks`.

    python scripts/bench_startup.py [--runs 7] [--output bench_startup.json]

Each figure is the median of whole processes run in turn, with the autoload on and off.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent


def seconds(command: list[str], autoload: bool) -> float:
    """Runs a command and returns its wall time."""
    started = time.perf_counter()
    environment = {**os.environ, "PEFT_EVAL_AUTOLOAD": str(int(autoload))}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def import_milliseconds() -> float:
    """Returns what `-X importtime` says of the autoload module and all it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "pass"], capture_output=True, text=True, check=True
    )
    [microseconds] = re.findall(r"\|\s*(\d+) \|\s+peft_eval_autoload", done.stderr)
    return int(microseconds) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("bench_startup.json"))
    options = parser.parse_args()

    on, off = [], []
    ls_tasks = [str(BIN / "lm_eval"), "ls", "tasks"]
    seconds(ls_tasks, True)
    for _ in range(options.runs):
        on.append(seconds(ls_tasks, True))
        off.append(seconds(ls_tasks, False))
    figures = {
        "autoload_import_ms": statistics.median(import_milliseconds() for _ in range(20)),
        "peft_eval_help_seconds": statistics.median(
            seconds([str(BIN / "peft-eval"), "--help"], True) for _ in range(20)
        ),
        "lm_eval_ls_tasks_seconds": {"ours": statistics.median(on), "stock": statistics.median(off)},
        "lm_eval_ls_tasks_ratio": statistics.median(a / b for a, b in zip(on, off, strict=True)),
    }
    print(json.dumps(figures, indent=1))
    options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
