"""Makes the shipped zoo: trains every checkpoint on the embedded base, evaluates all in one engine, writes the cards.

    python scripts/build_zoo.py                 (about an hour on two cores)
    python scripts/build_zoo.py --only ia3 --zoo OTHER --work WORK

Run again, it goes on where it stopped: a checkpoint that is trained is not trained again, one whose version is in the
zoo with its scores is left alone. Training runs in one thread, so that it gives the same weights on the same processor.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from peft_eval.checkpoint.manifest import MANIFEST_NAME
from peft_eval.errors import PeftEvalError
from peft_eval.resources import zoo_folder
from peft_eval.zoo.adding import Addition, add
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.scores import read_scores

LICENCE = "apache-2.0"
LIMIT_BYTES = 25_000_000
BASE_SUMMARY = "The embedded base: a Llama of 4.7M weights for demonstrations and tests"
COMMON = "--base zoo:base --data mini --encoding def_pos2 --instances-per-task 50 --max-steps 150"
LORA = "--method lora --targets all-linear --dropout 0 --learning-rate 3e-3 --rank"
TRAINED = {
    "lora-2": (f"{LORA} 2", "LoRA of rank 2 on all linear layers"),
    "lora-4": (f"{LORA} 4", "LoRA of rank 4 on all linear layers"),
    "lora-8": (f"{LORA} 8", "LoRA of rank 8 on all linear layers"),
    "adapter": ("--method adapter --size 8 --learning-rate 3e-3", "Adapters after attention and feed-forward"),
    "houlsby": ("--method houlsby --learning-rate 3e-3", "Houlsby's adapters"),
    "pfeiffer": ("--method pfeiffer --learning-rate 3e-3", "Pfeiffer's adapters, after the feed-forward"),
    "parallel": ("--method parallel --size 16 --learning-rate 3e-3", "Adapters beside the feed-forward"),
    "scaled_parallel": (
        "--method scaled_parallel --size 16 --learning-rate 3e-3",
        "Adapters beside the feed-forward, their scale learnt",
    ),
    "compacter": ("--method compacter --learning-rate 1e-2", "Compacter: Kronecker bottlenecks after both sublayers"),
    "compacter_pp": ("--method compacter_pp --learning-rate 1e-2", "Compacter++: after the feed-forward alone"),
    "ia3": ("--method ia3 --learning-rate 1e-2", "(IA)3: scales of keys, values and the feed-forward"),
    "prompt_tuning": ("--method prompt_tuning --learning-rate 3e-2", "32 virtual tokens before the input"),
    "prefix": (
        "--method prefix --length 16 --mlp-size 32 --learning-rate 1e-2",
        "16 keys and values before each layer's",
    ),
    "bitfit": ("--method bitfit --learning-rate 5e-3", "BitFit: the biases alone"),
    "ln_tuning": ("--method ln_tuning --learning-rate 1e-2", "The weights of the normalisation layers alone"),
    "full": ("--method full --learning-rate 3e-4", "Full fine-tuning"),
}
# float32: greedy answers then hardly depend on the machine, and `zoo verify --scores` can ask them again elsewhere.
TASKS = "mini_unseen,mini_memorization"
EVALUATE = f"peft-eval eval --model vllm --model-args dtype=float32 --tasks {TASKS}"


def main() -> int:
    """Makes what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TRAINED, help="these alone; default: all")
    parser.add_argument("--zoo", type=Path, default=zoo_folder(), help="folder of the zoo; default: the shipped one")
    parser.add_argument("--work", type=Path, default=Path("runs/zoo"), help="folder for runs and results")
    parser.add_argument("--model", default="vllm", choices=("vllm", "hf"), help="what answers the questions")
    parser.add_argument(
        "--no-scores", action="store_true", help="ask no questions; a later run does, and adds the scores"
    )
    given = parser.parse_args()
    names = given.only or list(TRAINED)
    zoo = FolderZoo(given.zoo, flat=True)
    if zoo.place("base") is None:
        base = add(Addition(str(zoo_folder() / "base"), licence=LICENCE, summary=BASE_SUMMARY), zoo)
        print(f"{base.place.pinned}: indexed")
    missing = [name for name in names if not is_whole(zoo, name, scored=not given.no_scores)]
    for number, name in enumerate(missing, start=1):
        print(f"[{number}/{len(missing)}] train {name}", flush=True)
        train(name, given.work / name)
    if not given.no_scores:
        evaluate(missing, given.work, given.model)
    for name in missing:
        enter(name, zoo, given.work)
    tidy(zoo)
    total = sum(path.stat().st_size for path in given.zoo.rglob("*") if path.is_file())
    print(f"{given.zoo}: {len(zoo.index().entries)} checkpoints, {total:,} bytes")
    return 0 if total <= LIMIT_BYTES else fail(f"larger than {LIMIT_BYTES:,} bytes")


def is_whole(zoo: FolderZoo, name: str, *, scored: bool) -> bool:
    """Whether a checkpoint is in the zoo, with scores if they are wanted, its files with the hashes that are listed."""
    from peft_eval.zoo.verifying import check_files

    try:
        place = zoo.place(name)
        if place is None or (scored and read_scores(place.folder) is None):
            return False
        check_files(place)
    except PeftEvalError:
        return False
    return True


def train_command(name: str, output: Path) -> str:
    """Returns the command that trains a checkpoint."""
    return f"peft-eval train {COMMON} {TRAINED[name][0]} --output {shlex.quote(str(output))}"


def train(name: str, output: Path) -> None:
    """Trains a checkpoint, or goes on with it, unless it is finished."""
    if (output / MANIFEST_NAME).is_file():
        return
    resume = ["--resume"] if output.is_dir() else []
    run([*train_command(name, output).split(), *resume])


def evaluate(names: list[str], work: Path, model: str) -> None:
    """Asks all that were not asked yet, in one engine."""
    todo = [name for name in names if not results_of(name, work)]
    if not todo:
        return
    words = EVALUATE.replace("--model vllm", f"--model {model}").split()
    words += [word for name in todo for word in ("--checkpoint", str(work / name))]
    run([*words, "--output", str(work / "results"), "--no-base"])


def results_of(name: str, work: Path) -> Path | None:
    """Returns the newest results of a checkpoint, None if there are none."""
    from peft_eval.study.results import read_run

    wanted = str(work / name)
    found = sorted((work / "results").rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    return next((path for path in reversed(found) if read_run(path).name == wanted), None)


def enter(name: str, zoo: FolderZoo, work: Path) -> None:
    """Puts a checkpoint with its scores into the zoo, in place of an earlier one of its name."""
    results = results_of(name, work)
    if zoo.place(name) is not None:
        zoo.remove(name)
    command = f"{EVALUATE} --checkpoint zoo:{name}"
    order = Addition(str(work / name), name, scores=results, command=command, licence=LICENCE, summary=TRAINED[name][1])
    print(f"{add(order, zoo).place.pinned}: in the zoo")


def tidy(zoo: FolderZoo) -> None:
    """Removes locks, which are no part of what is shipped."""
    shutil.rmtree(zoo.folder / ".locks", ignore_errors=True)


def run(command: list[str]) -> None:
    """Runs a command of this environment in one thread."""
    program = str(Path(sys.executable).parent / command[0])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    print("$", shlex.join(command), flush=True)
    code = subprocess.run([program, *command[1:]], env=environment, check=False).returncode
    if code:
        sys.exit(f"error: exit code {code}: {shlex.join(command)}")


def fail(problem: str) -> int:
    """Says what is wrong; returns the exit code."""
    print(f"error: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
