"""Scores per task and headline scores per category, from the samples that lm-eval logs.

lm-eval's table goes down to categories; each logged sample also carries its task, so with `--log_samples` and
`--output_path DIR` the scores per task need no new run: `per_task.scores(per_task.read_samples(DIR))`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from peft_eval.data.superni.tracks import category_slug
from peft_eval.errors import DataError
from peft_eval.scoring.superni import HEADLINE_METRICS

METRICS = ("rougeL", "exact_match")


@dataclass(frozen=True, slots=True)
class Score:
    """Mean scores of a group of samples, 0 to 100.

    Attributes:
        name: the task's, or the category's.
        category: the category it belongs to.
        samples: how many.
        rouge_l, exact_match: the means over the samples.
    """

    name: str
    category: str
    samples: int
    rouge_l: float
    exact_match: float

    @property
    def headline(self) -> float:
        """The metric that the official script reports for this category."""
        exact = HEADLINE_METRICS.get(self.category) == "exact_match"
        return self.exact_match if exact else self.rouge_l


def read_samples(folder: Path, prefix: str = "superni_unseen") -> Iterator[dict[str, Any]]:
    """Yields the logged samples of one suite from lm-eval's output folder.

    Of several runs in the folder, the newest file of each lm-eval task counts.

    Args:
        folder: the folder with `samples_<task>_<date>.jsonl`.
        prefix: the suite's name; the tasks `<prefix>_<category slug>` are read and no others.

    Raises:
        DataError: there are no such files, or a line is not a sample of this suite.
    """
    slugs = {category_slug(category) for category in HEADLINE_METRICS}
    newest: dict[str, Path] = {}
    for path in sorted(folder.glob(f"samples_{prefix}_*.jsonl"), key=lambda path: path.name):
        task = path.stem.removeprefix("samples_").rpartition("_")[0]
        if task.removeprefix(f"{prefix}_") in slugs:
            newest[task] = path
    if not newest:
        raise DataError(
            f"no logged samples of {prefix}", place=str(folder), remedy="run lm_eval with --log_samples --output_path"
        )
    for path in newest.values():
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield _sample(line, f"{path}:{number}")


def scores(samples: Iterable[dict[str, Any]], by: str = "task") -> list[Score]:
    """Returns mean scores per task (`by="task"`) or per category (`by="category"`), sorted by name."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for sample in samples:
        groups.setdefault(sample["doc"][by], []).append(sample)
    return [
        Score(
            name=name,
            category=group[0]["doc"]["category"],
            samples=len(group),
            rouge_l=fmean(sample["rougeL"] for sample in group),
            exact_match=fmean(sample["exact_match"] for sample in group),
        )
        for name, group in sorted(groups.items())
    ]


def _sample(line: str, place: str) -> dict[str, Any]:
    try:
        sample = json.loads(line)
        if isinstance(sample["doc"]["task"], str) and isinstance(sample["doc"]["category"], str):
            return {"doc": sample["doc"], **{metric: float(sample[metric]) for metric in METRICS}}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"not a sample of this suite: {error!r}", place=place) from error
    raise DataError("not a sample of this suite: no task and category", place=place)
