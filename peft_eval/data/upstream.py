"""Where each data set comes from, at which commit, and how to tell that what came is it.

Hashes are of the bytes at those commits. MMLU's archive is the one that its authors serve, at a pinned revision of its
copy on the Hub, since the original address has no versions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from peft_eval.data.fetch import ArchiveSpec
from peft_eval.data.fetch_files import FileSet, RemoteFile
from peft_eval.errors import DataError

_RAW = "https://raw.githubusercontent.com"
_HUB = "https://huggingface.co/datasets"
_GSM8K = "3101c7d5072418e28b9008a6636bde82a006892c"
_BBH = "9ee07bd481feebf959a6b59d61ea57bdcf30964d"
_HUMAN_EVAL = "6d43fb980f9fee3c892a914eda09951f772ad10d"
_ALPACA_EVAL = "cd543a149df89434d8a54582c0151c0b945c3d20"
_TRUTHFULQA = "fdd8ad1c0d00a478cf8b0bb41a3ad8378c16293b"
_TOXIGEN = "2b0ef7683e0e9204ec61bbf4d95300a02ed384e3"
_TYDIQA = "da78f23f9119363459acbaf46bf89426ff26c259"
_MMLU = "c30699e8356da336a370243923dbaf21066bb9fe"
_ALPACA_FILE = "results/alpaca-7b/alpaca_eval_gpt4/annotations.json"
_TOXIGEN_GROUPS = (
    "asian", "black", "chinese", "jewish", "latino", "lgbtq", "mental_disability", "mexican", "middle_east", "muslim",
    "native_american", "physical_disability", "trans", "women",
)  # fmt: skip
_BBH_HASHES: dict[str, str] = json.loads(Path(__file__).with_name("bbh_sha256.json").read_text(encoding="utf-8"))

MMLU_ARCHIVE = ArchiveSpec(
    url=f"{_HUB}/cais/mmlu/resolve/{_MMLU}/data.tar",
    commit=_MMLU,
    sha256="bec563ba4bac1d6aaf04141cd7d1605d7a5ca833e38f994051e818489592989b",
    folders=("dev", "test"),
)
FILE_SETS = {
    "gsm8k": FileSet(
        f"{_RAW}/openai/grade-school-math/{_GSM8K}",
        _GSM8K,
        (
            RemoteFile(
                "test.jsonl",
                "grade_school_math/data/test.jsonl",
                "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
            ),
            RemoteFile(
                "train.jsonl",
                "grade_school_math/data/train.jsonl",
                "17f347dc51477c50d4efb83959dbb7c56297aba886e5544ee2aaed3024813465",
            ),
        ),
    ),
    "bbh": FileSet(
        f"{_RAW}/suzgunmirac/BIG-Bench-Hard/{_BBH}",
        _BBH,
        tuple(RemoteFile(path, path, sha256) for path, sha256 in _BBH_HASHES.items()),
    ),
    "human_eval": FileSet(
        f"{_RAW}/openai/human-eval/{_HUMAN_EVAL}",
        _HUMAN_EVAL,
        (
            RemoteFile(
                "HumanEval.jsonl.gz",
                "data/HumanEval.jsonl.gz",
                "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
            ),
        ),
    ),
    "alpaca_eval": FileSet(
        f"{_RAW}/tatsu-lab/alpaca_eval/{_ALPACA_EVAL}",
        _ALPACA_EVAL,
        (RemoteFile(_ALPACA_FILE, _ALPACA_FILE, "d44ea50f1a81f6ae6a95e8ac1dd08b7eca82cc0a9058a2923b1c70cec1e9eaa5"),),
    ),
    "truthfulqa": FileSet(
        f"{_RAW}/sylinrl/TruthfulQA/{_TRUTHFULQA}",
        _TRUTHFULQA,
        (RemoteFile("TruthfulQA.csv", "TruthfulQA.csv"),),
        repository="https://github.com/sylinrl/TruthfulQA.git",
    ),
    "toxigen": FileSet(
        f"{_RAW}/microsoft/TOXIGEN/{_TOXIGEN}",
        _TOXIGEN,
        tuple(RemoteFile(f"hate_{group}.txt", f"prompts/hate_{group}_1k.txt") for group in _TOXIGEN_GROUPS),
        repository="https://github.com/microsoft/TOXIGEN.git",
    ),
    "tydiqa": FileSet(
        f"{_HUB}/google-research-datasets/tydiqa/resolve/{_TYDIQA}",
        _TYDIQA,
        tuple(
            RemoteFile(path, path)
            for path in (
                "secondary_task/train-00000-of-00001.parquet",
                "secondary_task/validation-00000-of-00001.parquet",
            )
        ),
        repository=f"{_HUB}/google-research-datasets/tydiqa",
    ),
}


def _check_mmlu(folder: Path) -> int:
    from peft_eval.data.mmlu.reader import read_questions
    from peft_eval.data.mmlu.subjects import all_subjects

    for subject in all_subjects():
        read_questions(folder, "dev", subject)
    return sum(len(read_questions(folder, "test", subject)) for subject in all_subjects())


def _check_gsm8k(folder: Path) -> int:
    from peft_eval.data.gsm8k import read_problems

    return sum(len(read_problems(folder, part)) for part in ("train", "test"))


def _check_bbh(folder: Path) -> int:
    from peft_eval.data.bbh import TASKS, read_examples, read_prompt

    for task in TASKS:
        read_prompt(folder, task)
    return sum(len(read_examples(folder, task)) for task in TASKS)


def _check_human_eval(folder: Path) -> int:
    import zlib

    from peft_eval.plain_files import lines_of

    path = folder / "HumanEval.jsonl.gz"
    try:
        return sum(1 for _, line in lines_of(path) if json.loads(line)["task_id"])
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise DataError(f"not HumanEval's problems: {error!r}", place=str(path)) from error


def _check_alpaca_eval(folder: Path) -> int:
    from peft_eval.data.alpaca_eval import read_references

    return len(read_references(folder))


def _check_truthfulqa(folder: Path) -> int:
    from peft_eval.data.truthfulqa import read_questions

    return len(read_questions(folder))


def _check_toxigen(folder: Path) -> int:
    from peft_eval.data.toxigen import read_prompts

    return sum(len(prompts) for prompts in read_prompts(folder).values())


def _check_tydiqa(folder: Path) -> int:
    from peft_eval.data.tydiqa import read_part

    return sum(len(read_part(folder, part)) for part in ("train", "dev"))


# How many rows each data set has, and what counts them (and reads all of it on the way).
_ROWS: dict[str, tuple[int, Callable[[Path], int]]] = {
    "mmlu": (14_042, _check_mmlu),
    "gsm8k": (8_792, _check_gsm8k),
    "bbh": (6_511, _check_bbh),
    "human_eval": (164, _check_human_eval),
    "alpaca_eval": (805, _check_alpaca_eval),
    "truthfulqa": (817, _check_truthfulqa),
    "toxigen": (7_000, _check_toxigen),
    "tydiqa": (54_958, _check_tydiqa),
}


def check_data(name: str, folder: Path) -> None:
    """Checks that a folder holds a data set, by reading all of it.

    Raises:
        PeftEvalError: it cannot be read, or has another number of rows.
    """
    expected, count = _ROWS[name]
    found = count(folder)
    if found != expected:
        raise DataError(f"{found} rows, expected were {expected}", place=str(folder), remedy="this is another version")
