"""Measures every training method on the embedded base and writes what `peft-eval methods` and docs/methods.md show.

    python scripts/measure_methods.py [--steps 8] [--methods lora,adapter] [--speeds bench_routes.json]
    python scripts/measure_methods.py --missing --minutes 7      # go on where the last call stopped

Each method trains on the mini corpus in a process of its own, forked after the libraries were loaded, with LoRA again
every few methods: a method's processor seconds per step are set against the LoRA runs around it. Memory is the peak of
resident pages over what the process held before. Whether it merges, and how far merged and unmerged logits then are
apart, is found by merging it; the route by asking for one. Tokens per second come from `bench_routes.py --methods all
--base zoo:base --output bench_routes.json`. What a method cannot do is written down with the reason. Figures are kept
after every few methods; those of methods that are not measured now stay.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from random_adapters import OPTIONS

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "methods.md"
DATA = ROOT / "peft_eval" / "methods" / "measured.json"
LORA_EVERY = 6
PROBES_AT_ONCE = 2
SPEED = "tokens_per_second_to_base"  # measured by the other script
COLUMNS = (
    "weights trained",
    "checkpoint MB",
    "s/step",
    "memory",
    "merged, float32",
    "merged, bfloat16",
    "route",
    "tokens/s",
)


def peak_bytes() -> int:
    """Returns this process's peak of resident memory since it was last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not tell VmHWM")


def train_one(name: str, output: Path, steps: int) -> dict[str, Any]:
    """Trains one method for some steps and returns what it cost."""
    from peft_eval.checkpoint.reading import open_checkpoint
    from peft_eval.training import trainer
    from peft_eval.training.run import train
    from peft_eval.training.spec import TrainSpec

    # This process's own time, in one thread: what else runs on the machine does not count.
    trainer.time = SimpleNamespace(monotonic=time.process_time)  # type: ignore[attr-defined]
    spec = TrainSpec(
        base="zoo:base", method=name, data="mini", output=str(output), tasks=12, instances_per_task=20, batch_size=8,
        micro_batches=2, encoding="def_pos2", max_steps=steps, save_every_steps=0, learning_rate=1e-3,
        options=OPTIONS.get(name, {}),
    )  # fmt: skip
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = peak_bytes()
    train(spec, say=lambda line: None)
    manifest = open_checkpoint(str(output)).manifest
    assert manifest is not None and manifest.training is not None
    weights = sum(path.stat().st_size for path in output.glob("*.safetensors"))
    return {
        "steps": steps,
        "trainable_parameters": manifest.method.trainable_parameters,
        "share": (manifest.method.trainable_parameters or 0) / (manifest.method.total_parameters or 1),
        "checkpoint_bytes": weights,
        "seconds_per_step": manifest.training.seconds / steps,
        "memory_bytes": peak_bytes() - before,
    }


def probe(output: Path) -> dict[str, Any]:
    """Returns how a checkpoint is served, and how far its merged weights are from it."""
    import torch

    from peft_eval.checkpoint.location import resolve_folder
    from peft_eval.merging.reference import reference_logits
    from peft_eval.serving.route import choose_route

    route = choose_route(str(output))
    found: dict[str, Any] = {"route": route.name, "reason": route.reason}
    if route.name == "merge":
        base = resolve_folder("zoo:base")
        for dtype in (torch.float32, torch.bfloat16):
            reference = reference_logits(output, base, base, served_dtype=dtype)
            distance = reference.merge_distance
            assert distance is not None
            found[f"merged_{str(dtype).removeprefix('torch.')}"] = distance.largest / reference.largest_logit
    return found


def begin_child(work: Callable[[], dict[str, Any]]) -> tuple[int, int]:
    """Runs a function in a forked process; returns its number, and a pipe that its result comes through as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the run's own progress bar
        try:
            result = work()
        except BaseException as error:
            result = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        with os.fdopen(writing, "w") as pipe:
            json.dump(result, pipe)
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    return child, reading


def result_of(child: tuple[int, int]) -> dict[str, Any]:
    """Waits for a process and returns its dictionary, `error` if it raised."""
    number, reading = child
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(number, 0)
    return json.loads(text) if text else {"error": "the process died"}


def measure(names: list[str], steps: int) -> Iterator[dict[str, dict[str, Any]]]:
    """Measures methods one after another, with LoRA between groups of them, and yields each group.

    A group's checkpoints are probed when its timings are done, several at a time.
    """
    before = _lora(steps)
    for start in range(0, len(names), LORA_EVERY):
        found: dict[str, dict[str, Any]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for name in names[start : start + LORA_EVERY]:
                output = Path(folder) / name
                found[name] = result_of(begin_child(lambda n=name, o=output: train_one(n, o, steps)))
            trained = [name for name, one in found.items() if "error" not in one]
            for at in range(0, len(trained), PROBES_AT_ONCE):
                some = trained[at : at + PROBES_AT_ONCE]
                probes = [begin_child(lambda o=Path(folder) / name: probe(o)) for name in some]
                for name, child in zip(some, probes, strict=True):
                    found[name] |= result_of(child)
        after = _lora(steps)
        for name, one in found.items():
            print(f"{name}: {one.get('error', 'measured')}", flush=True)
            if "seconds_per_step" in one:
                one["seconds_to_lora"] = one["seconds_per_step"] / statistics.mean([before, after])
        yield found
        before = after


def _lora(steps: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        result = result_of(begin_child(lambda: train_one("lora", Path(folder) / "out", steps)))
    if "error" in result:
        raise SystemExit(f"lora: {result['error']}")
    return float(result["seconds_per_step"])


def row(name: str, one: dict[str, Any]) -> str:
    """Returns a method's line of the table."""
    if "seconds_per_step" not in one:
        return f"| `{name}` | {one['error']} |" + " |" * (len(COLUMNS) - 1)

    def digits(key: str) -> str:
        return f"{one[key]:.1e}" if key in one else ""

    speed = f"{one[SPEED]:.2f}" if SPEED in one else ""
    return (
        f"| `{name}` | {one['trainable_parameters']:,} | {one['checkpoint_bytes'] / 1e6:.2f} | "
        f"{one['seconds_to_lora']:.2f} | {one['memory_bytes'] / 1e6:.0f} | "
        f"{digits('merged_float32')} | "
        f"{digits('merged_bfloat16')} | {one.get('route', one.get('error', ''))} | {speed} |"
    )


def table(measured: dict[str, Any]) -> str:
    """Returns docs/methods.md."""
    methods = measured["methods"]
    hf = {name: one["reason"] for name, one in methods.items() if one.get("route") == "hf"}
    steps = sorted({one["steps"] for one in methods.values() if "steps" in one})
    how_many = " or ".join(str(number) for number in steps)
    lines = [
        "# The methods, measured",
        "",
        "Written by `python scripts/measure_methods.py`; not edited by hand. "
        f"{how_many} steps on the embedded base ({measured['base_parameters']:,} weights), each method at "
        "its own defaults, on a CPU. Options: `peft-eval methods NAME`.",
        "",
        "- **s/step**: processor seconds of a training step, in one thread, over LoRA's in the same run.",
        "- **memory**: peak while training over what the process held before, MB.",
        "- **merged**: largest difference of logits between merged and unmerged weights over the largest logit, with "
        "merged weights in float32 and bfloat16; empty: there is no merged form.",
        "- **route**: how vLLM serves it; hf: `--model hf`, taken by itself. The reasons are below.",
        "- **tokens/s**: generated tokens per second in vLLM over the plain base's.",
        "",
        f"| method | {' | '.join(COLUMNS)} |",
        "|---" * (len(COLUMNS) + 1) + "|",
        *(row(name, one) for name, one in sorted(methods.items())),
        "",
        "## Why not in vLLM",
        "",
        "| method | reason |",
        "|---|---|",
        *(f"| `{name}` | {reason} |" for name, reason in sorted(hf.items())),
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in measured["versions"].items()),
    ]
    return "\n".join(lines) + "\n"


def keep(found: dict[str, dict[str, Any]], speeds: Path | None) -> None:
    """Writes new figures beside those of other methods, as JSON and as the table."""
    import torch

    from peft_eval.checkpoint.location import resolve_folder
    from peft_eval.harness.record import library_versions
    from peft_eval.merging.tensor_files import stored_tensors
    from peft_eval.plugins import methods

    known = json.loads(DATA.read_text(encoding="utf-8"))["methods"] if DATA.exists() else {}
    for name, one in found.items():
        known[name] = one | {key: known[name][key] for key in (SPEED,) if key in known.get(name, {})}
    everything = {name: one for name, one in sorted(known.items()) if name in methods()}
    if speeds:
        for name, one in json.loads(speeds.read_text(encoding="utf-8"))["results"].items():
            if name in everything and "ratio" in one:
                everything[name][SPEED] = round(one["ratio"], 3)
    stored = stored_tensors(resolve_folder("zoo:base")).values()
    measured = {
        "base_parameters": sum(torch.Size(tensor.shape).numel() for tensor in stored),
        "versions": library_versions(),
        "methods": everything,
    }
    DATA.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(measured), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--methods", default="all", help="comma-separated names, all, or none: only write the table")
    parser.add_argument("--missing", action="store_true", help="only those that have no figures yet")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further group after so long")
    parser.add_argument("--speeds", type=Path, help="what bench_routes.py wrote")
    options = parser.parse_args()

    import torch
    import transformers

    import peft_eval.training.trainer  # noqa: F401  (loaded once, before the forks)
    from peft_eval.merging.reference import reference_logits  # noqa: F401
    from peft_eval.methods.measured import measurements
    from peft_eval.methods.tuner import register_all
    from peft_eval.plugins import methods

    register_all()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    started = time.monotonic()
    given = {"all": sorted(methods()), "none": []}
    names = given.get(options.methods, options.methods.split(","))
    if options.missing:
        names = [name for name in names if "seconds_to_lora" not in measurements().get(name, {})]
    done: dict[str, dict[str, Any]] = {}
    for group in measure(names, options.steps) if names else []:
        done |= group
        keep(done, options.speeds)
        if time.monotonic() - started > 60 * options.minutes:
            break
    if not names:
        keep({}, options.speeds)
    failed = [name for name, one in done.items() if "error" in one]
    seconds = time.monotonic() - started
    print(f"{len(done)} of {len(names)} methods in {seconds:.0f} s, {len(failed)} could not: {TABLE}")


if __name__ == "__main__":
    main()
