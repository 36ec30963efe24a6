"""Finds the folder with the files of a data set that suites or training read.

Every data set is found the same way: the folder given (`--metadata NAME=DIR`, `--data superni:DIR`), else that of the
environment variable `PEFT_EVAL_<NAME>`, else where `peft-eval data get NAME` puts it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from peft_eval.errors import DataError, unknown_name


@dataclass(frozen=True, slots=True)
class Layout:
    """How to tell that a folder holds a data set.

    Attributes:
        title: the data set's name in prose.
        marks: glob patterns, of which one has to match a path below the folder.
        described: the same for people.
    """

    title: str
    marks: tuple[str, ...]
    described: str


LAYOUTS = {
    "superni": Layout("Super-NaturalInstructions", ("tasks/",), "tasks/ and splits/"),
    "mmlu": Layout("MMLU", ("test/*_test.csv",), "test/*_test.csv and dev/*_dev.csv"),
    "gsm8k": Layout("GSM8K", ("test.jsonl",), "test.jsonl"),
    "bbh": Layout("BIG-Bench-Hard", ("bbh/*.json",), "bbh/*.json and cot-prompts/*.txt"),
    "tydiqa": Layout(
        "TyDiQA",
        ("*dev*.json", "*validation*.parquet", "secondary_task/*validation*.parquet"),
        "the gold passage task: tydiqa-goldp-v1.1-{train,dev}.json or secondary_task/*.parquet",
    ),
    "human_eval": Layout("HumanEval", ("HumanEval.jsonl.gz", "HumanEval.jsonl"), "HumanEval.jsonl.gz"),
    # The answers to beat are the output_1 of the annotations; results/text_davinci_003/model_outputs.json holds others.
    "alpaca_eval": Layout(
        "AlpacaEval",
        ("alpaca_eval.json", "results/*/alpaca_eval_gpt4/annotations.json"),
        "alpaca_eval.json, or results/*/alpaca_eval_gpt4/annotations.json",
    ),
    "toxigen": Layout("ToxiGen", ("hate_*.txt",), "hate_*.txt"),
    "truthfulqa": Layout("TruthfulQA", ("TruthfulQA.csv",), "TruthfulQA.csv"),
}


def environment_variable(name: str) -> str:
    """Returns the environment variable that names a data set's folder."""
    return f"PEFT_EVAL_{name.upper()}"


def fetched_folder(name: str) -> Path:
    """Returns where `peft-eval data get NAME` puts the data unless told otherwise."""
    return user_cache_path("peft_eval") / name


def data_folder(name: str, given: str | os.PathLike[str] | None = None) -> Path:
    """Returns the folder given, else that of `PEFT_EVAL_<NAME>`, else the fetched one.

    Args:
        name: the data set, a key of `LAYOUTS`.
        given: what the user named, if anything.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: the folder has none of the data set's files.
    """
    if name not in LAYOUTS:
        raise unknown_name("data set", name, LAYOUTS)
    layout, variable = LAYOUTS[name], environment_variable(name)
    if given:
        folder, origin = Path(given).expanduser(), "as given"
    elif named := os.environ.get(variable):
        folder, origin = Path(named).expanduser(), f"from {variable}"
    else:
        folder, origin = fetched_folder(name), "the cache"
    if any(next(folder.glob(mark), None) for mark in layout.marks):
        return folder
    ways = [f"`--metadata {name}=DIR`", f"{variable}=DIR"]
    if name == "superni":
        ways.insert(0, "`--data superni:DIR`")
    raise DataError(
        f"no {layout.title} data here ({origin})",
        place=str(folder),
        remedy=f"fetch the data with `peft-eval data get {name}`, or name a folder that has {layout.described}: "
        f"{', '.join(ways[:-1])} or {ways[-1]}",
    )
