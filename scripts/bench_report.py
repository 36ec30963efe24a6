"""What a report of 500 cells and 50,000 samples takes: seconds to build, megabytes, seconds until it can be used.

    python scripts/bench_report.py [--cells 500] [--questions 100] [--folder DIR] [--output bench_report.json]

The store is made here, in the formats that training and lm-eval write: manifests, results and samples of the mini
suite's own questions, with answers that are right as often as a made-up law of method, size and rate says. The scores
mean nothing. Time to use is that of a fresh Chromium, from opening the file until the table can be sorted and the
first plots are drawn. The process ends with 1 if a limit is passed.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peft_eval.data.encoding import encode_source, encoding_named
from peft_eval.data.mini.corpus import as_superni, unseen_tasks
from peft_eval.study.cells import Cell
from peft_eval.study.file import StudyFile
from peft_eval.study.store import CellFolder, State
from peft_eval.study.study import Study
from tests.report import chromium
from tests.report.made import write_checkpoint, write_table

LIMITS = {"build_seconds": 20, "megabytes": 15, "interactive_seconds": 2}
SUITE = "mini_unseen"
STUDY = """
name = "bench"
title = "Made-up results"
[train]
base = "zoo:base"
data = "mini"
instances_per_task = 8
max_steps = 150
[axes]
learning_rate = [3e-4, 1e-3, 3e-3, 1e-2]
tasks = [4, 8, 16, 32]
[methods.full]
[methods.lora]
rank = [1, 2, 4, 8, 16, 32, 64, 128]
[methods.dora]
rank = [1, 2, 4, 8, 16, 32, 64, 128]
[methods.adapter]
size = [2, 4, 8, 16, 32, 64, 128]
[methods.prompt_tuning]
num_virtual_tokens = [4, 8, 16, 32, 64, 128]
[methods.ia3]
[methods.bitfit]
[evaluate]
suites = ["mini_unseen"]
"""
GENERATION = {"until": [], "do_sample": False, "max_gen_toks": 32}
OWN_SIZE = ("rank", "size", "num_virtual_tokens")


@functools.cache
def questions(count: int) -> dict[str, list[dict]]:
    """Returns documents of the mini suite by task, `count` in all."""
    by_category: dict[str, list[dict]] = {}
    for task in map(as_superni, unseen_tasks()):
        name = f"{SUITE}_{re.sub(r'[^a-z]+', '_', task.category.lower()).strip('_')}"
        for instance in task.instances:
            prompt = encode_source(task, instance.input, encoding_named("def_pos2")).text
            document = {"task": task.name, "category": task.category, "id": instance.id, "input": instance.input}
            by_category.setdefault(name, []).append(document | {"references": list(instance.outputs), "prompt": prompt})
    each = math.ceil(count / len(by_category))
    chosen = {name: random.Random(name).sample(documents, each) for name, documents in by_category.items()}
    left = count
    for name, documents in chosen.items():
        chosen[name] = documents[:left]
        left -= len(chosen[name])
    return {name: documents for name, documents in chosen.items() if documents}


def skill(cell: Cell | None) -> float:
    """Returns how many questions of a hundred a cell answers right, by a law that is made up."""
    if cell is None:
        return 12.0
    size = next((float(cell.coordinates[axis]) for axis in OWN_SIZE if axis in cell.coordinates), 32.0)
    best = {"full": -5.8, "prompt_tuning": -4.0}.get(cell.label, -6.2 + 0.1 * math.log2(size) / 2)
    away = (math.log(cell.coordinates["learning_rate"]) - best) ** 2
    weight = {"full": 46, "lora": 42, "dora": 43, "adapter": 40, "prompt_tuning": 24, "ia3": 27, "bitfit": 30}[
        cell.label
    ]
    return 12 + weight * math.exp(-away / 6) * (0.55 + 0.08 * math.log2(cell.coordinates["tasks"])) * (1 - 0.4 / size)


def write_results(folder: Path, reference: str, cell: Cell | None, count: int, date: str) -> None:
    """Writes a results file and samples, as lm-eval does."""
    rng = random.Random(reference)
    folder.mkdir(parents=True)
    rows, sums = {}, []
    for task, documents in questions(count).items():
        scores = []
        with (folder / f"samples_{task}_{date}.jsonl").open("w", encoding="utf-8") as file:
            for number, document in enumerate(documents):
                right = rng.random() * 100 < skill(cell)
                other = rng.choice(documents)["references"][0]
                answer = document["references"][0] if right else f"{other} {rng.choice(documents)['input'][:40]}"
                rouge = 100.0 if right else round(rng.random() * 30, 3)
                scores.append((rouge, 100.0 * right))
                sample = {
                    "doc_id": number,
                    "doc": document,
                    "target": str(document["references"]),
                    "arguments": {"gen_args_0": {"arg_0": document["prompt"], "arg_1": GENERATION}},
                    "resps": [[answer]],
                    "filtered_resps": [answer],
                    "filter": "none",
                    "metrics": ["rougeL", "exact_match"],
                    "doc_hash": hashlib.sha256(json.dumps(document).encode()).hexdigest(),
                    "prompt_hash": hashlib.sha256(document["prompt"].encode()).hexdigest(),
                    "target_hash": hashlib.sha256(str(document["references"]).encode()).hexdigest(),
                    "rougeL": rouge,
                    "exact_match": 100.0 * right,
                }
                file.write(json.dumps(sample, ensure_ascii=False) + "\n")
        rows[task] = _means(scores)
        sums += scores
    record = {"checkpoint": reference, "method": cell.spec.method, "route": "merge"} if cell else {"route": "base"}
    arguments = {} if cell else {"pretrained": reference}
    table = rows | {SUITE: _means(sums)}
    write_table(folder / f"results_{date}.json", table, {SUITE: list(rows)}, arguments, record)


def _means(scores: Sequence[tuple[float, float]]) -> dict[str, float]:
    each = [sum(part) / len(scores) for part in zip(*scores, strict=True)]
    return {"rougeL,none": each[0], "exact_match,none": each[1]}


def write_cell(folder: CellFolder) -> None:
    """Writes the manifest of a trained cell."""
    cell = folder.cell
    size = next((int(cell.coordinates[axis]) for axis in OWN_SIZE if axis in cell.coordinates), 1)
    full = cell.label == "full"
    trainable = 4_672_256 if full else {"ia3": 3_072, "bitfit": 9_216}.get(cell.label, 5_120 * size)
    drop = 1.5 + skill(cell) / 40
    rng = random.Random(cell.id)
    losses = [(step, 3.4 - drop * (1 - math.exp(-step / 40)) + rng.gauss(0, 0.05)) for step in range(1, 151)]
    write_checkpoint(
        folder,
        trainable=trainable,
        base=4_672_256,
        seconds=(40 if full else 22) + math.log2(size + 1) + rng.random(),
        memory=int(6e8 + 30 * trainable * rng.uniform(0.9, 1.1)),
        losses=losses,
    )


def make_store(folder: Path, cells: int, count: int) -> tuple[Path, Path]:
    """Makes a study's file and its store; every 50th cell failed or diverged."""
    file, store = folder / "bench.toml", folder / "store"
    file.write_text(STUDY, encoding="utf-8")
    study = Study(StudyFile.model_validate(tomllib.loads(STUDY)), store)
    home = study.evaluations.folder
    write_results(home / "base", "zoo:base", None, count, "2026-01-01T00-00-00.000000")
    if cells > len(study.grid):
        raise SystemExit(f"the study has {len(study.grid)} cells, {cells} were asked for")
    for number, cell in enumerate(study.grid[:cells]):
        one = study.folder_of(cell)
        if number % 50 == 49:
            words = (
                ("diverged", "the loss became nan at step 37") if number % 100 == 99 else ("failed", "out of memory")
            )
            one.write(State(words[0], 1, 12.5, words[1]))
            continue
        one.write(State("done", 1, 30.0))
        write_cell(one)
        seconds = f"2026-01-01T{1 + number // 3600:02}-{number // 60 % 60:02}-{number % 60:02}.000000"
        write_results(home / cell.id, str(one.checkpoint), cell, count, seconds)
    return file, store


def processor_seconds() -> float:
    """Returns what the processes started here, and theirs, have computed: a busy machine does not change that."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def opened(page: Path) -> dict[str, float]:
    """Returns the seconds until the page can be used, of three openings in fresh browsers the middle one, and more."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as play:
        for _ in range(3):
            with tempfile.TemporaryDirectory() as profile:
                context = play.chromium.launch_persistent_context(
                    profile,
                    executable_path=chromium.executable(),
                    args=chromium.ARGUMENTS,
                    viewport={"width": 1280, "height": 900},
                )
                tab = context.pages[0]
                started = time.perf_counter()
                tab.goto(page.as_uri(), wait_until="commit")
                tab.wait_for_selector("html[data-ready=yes]", state="attached")
                ready = time.perf_counter()
                tab.click("#table thead button >> nth=0")
                tab.wait_for_selector("th[aria-sort=ascending]")
                usable = time.perf_counter()
                tab.click("button.score >> nth=0")
                tab.wait_for_selector("#samples article")
                found.append((usable - started, ready - started, time.perf_counter() - usable))
                context.close()
    middle = sorted(found)[1]
    names = ("interactive_seconds", "drawn_seconds", "samples_seconds")
    return dict(zip(names, (round(one, 2) for one in middle), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--questions", type=int, default=100, help="questions a cell")
    parser.add_argument("--folder", type=Path, help="keep the store and the report here")
    parser.add_argument("--output", type=Path, default=Path("bench_report.json"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        file, store = folder / "bench.toml", folder / "store"
        if not store.is_dir():
            file, store = make_store(folder, options.cells, options.questions)
        command = [sys.executable, "-m", "peft_eval.cli.main", "report", str(file), "--store", str(store)]
        started, busy = time.perf_counter(), processor_seconds()
        done = subprocess.run(
            [*command, "--output", str(folder / "report")], capture_output=True, text=True, check=True
        )
        figures = {"build_seconds": round(time.perf_counter() - started, 1)}
        figures["build_processor_seconds"] = round(processor_seconds() - busy, 1)
        page = folder / "report" / "report.html"
        figures |= {"megabytes": round(page.stat().st_size / 1e6, 1), **opened(page)}
        said = done.stdout.splitlines()[0].removeprefix(f"{page}: ")
    passed = {name: figures[name] <= limit for name, limit in LIMITS.items()}
    result = {"report": said, **figures, "limits": LIMITS, "within": passed}
    print(json.dumps(result, indent=1))
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.exit(not all(passed.values()))


if __name__ == "__main__":
    main()
