"""What the runner of studies costs beside the cells themselves.

    python scripts/bench_study.py [--cells 10000] [--seconds 5] [--jobs 2] [--output FILE]

Plans a grid of so many cells; runs as many cells that do nothing; runs 100 cells that work for some seconds each, and
sets the wall time against the cells' own. The cells are real ones (folders, locks, states, a process each, forked from
one that has torch and transformers loaded), only their task is not training. Five seconds are few: 100 steps on the
embedded base, the shortest training of the shipped studies' mini scale, take 35 to 200. Prints what was measured beside
what is wanted; JSON.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.manifest import MANIFEST_NAME
from peft_eval.study.cells import Cell, cells_of
from peft_eval.study.file import StudyFile
from peft_eval.study.local import LocalRunner
from peft_eval.study.store import CellFolder

WANTED = {"plan_seconds": 3.0, "milliseconds_per_trivial_cell": 50.0, "overhead_at_100_cells": 0.02}


def nothing(settings: dict[str, Any]) -> None:
    """Leaves what makes a cell done."""
    output = Path(settings["output"])
    output.mkdir(parents=True)
    (output / MANIFEST_NAME).write_text("{}")


def work(settings: dict[str, Any], seconds: float) -> None:
    """Waits as long as a cell would work, without taking a core from the runner."""
    began = time.perf_counter()
    nothing(settings)
    time.sleep(seconds)
    (Path(settings["output"]) / "seconds").write_text(str(time.perf_counter() - began))


def grid(count: int) -> list[Cell]:
    """Returns so many cells: learning rates x seeds."""
    rates = max(1, count // 100)
    axes = {"learning_rate": [(1 + n) * 1e-6 for n in range(rates)], "seed": list(range(count // rates))}
    file = {"name": "bench", "train": {"base": "zoo:base", "data": "mini", "tasks": 1, "max_steps": 1}, "axes": axes}
    return cells_of(
        StudyFile.model_validate({**file, "methods": {"lora": {}}, "evaluate": {"suites": ["mini_unseen"]}})
    )


def run(cells: list[Cell], task: Any, jobs: int) -> tuple[float, list[CellFolder], tempfile.TemporaryDirectory[str]]:
    """Runs cells in a new store; returns the seconds that it took, and their folders."""
    store = tempfile.TemporaryDirectory()
    runner = LocalRunner(jobs, task=task)
    folders = [CellFolder(Path(store.name), cell) for cell in cells]
    began = time.perf_counter()
    runner.run(folders, lambda folder, state: None)
    return time.perf_counter() - began, folders, store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="that each of 100 cells works")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    grid(1)  # loads what planning needs
    began = time.perf_counter()
    cells = grid(options.cells)
    found: dict[str, float] = {"cells": len(cells), "plan_seconds": time.perf_counter() - began}
    run(cells[:1], nothing, 1)[2].cleanup()  # the process that cells are forked from starts here
    seconds, folders, store = run(cells, nothing, options.jobs)
    assert all(folder.trained for folder in folders)
    store.cleanup()
    found["milliseconds_per_trivial_cell"] = 1000 * seconds / len(cells)
    seconds, folders, store = run(cells[:100], functools.partial(work, seconds=options.seconds), options.jobs)
    own = sum(float((folder.checkpoint / "seconds").read_text()) for folder in folders)
    store.cleanup()
    found["overhead_at_100_cells"] = seconds * options.jobs / own - 1
    found["seconds_beside_a_cell"] = (seconds * options.jobs - own) / 100
    for name, wanted in WANTED.items():
        print(f"{name:32} {found[name]:9.4f}   wanted under {wanted:g}{'' if found[name] < wanted else '   ABOVE'}")
    print(f"{'seconds_beside_a_cell':32} {found['seconds_beside_a_cell']:9.4f}")
    settings = {"jobs": options.jobs, "seconds_of_work": options.seconds}
    if options.output:
        options.output.write_text(json.dumps({"measured": found, "wanted": WANTED, **settings}, indent=1))


if __name__ == "__main__":
    main()
