"""Writes the mini corpus as a folder in the official layout: `python -m peft_eval.data.mini.folder DIR [SEED]`.

What comes out is read by `--data superni:DIR`, as any other Super-NaturalInstructions folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from peft_eval.data.mini.corpus import DEFAULT_SEED, INSTANCES, task_file, train_tasks, unseen_tasks
from peft_eval.data.mini.source import corpus_seed


def write_folder(folder: Path, seed: int = DEFAULT_SEED, instances: int = INSTANCES) -> None:
    """Writes `tasks/*.json` and `splits/default/{train,test}_tasks.txt` for a seed."""
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    splits = folder / "splits" / "default"
    splits.mkdir(parents=True, exist_ok=True)
    for part, tasks in (("train", train_tasks()), ("test", unseen_tasks())):
        (splits / f"{part}_tasks.txt").write_text("".join(f"{task.name}\n" for task in tasks), encoding="utf-8")
        for task in tasks:
            text = json.dumps(task_file(task, seed, instances), indent=4, ensure_ascii=False)
            (folder / "tasks" / f"{task.name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m peft_eval.data.mini.folder DIR [SEED]")
    write_folder(Path(sys.argv[1]), corpus_seed(sys.argv[2] if len(sys.argv) == 3 else None))
