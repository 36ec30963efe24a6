"""What the subcommands of `peft-eval study` share: options, the study they name, its scores as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from peft_eval.study.study import Study

FILE = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
STORE = click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path("runs/cells"),
    show_default=True,
    help="Folder of all cells, shared by studies: a run that is there is not made again.",
)
SCALE = click.option("--scale", metavar="NAME", help="Take the settings of [scales.NAME] in place of the file's.")
INSIST = click.option("--insist", is_flag=True, help="Take a grid of more than 10,000 cells.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def open_study(file: Path, store: Path, scale: str | None, insist: bool) -> Study:
    """Reads a study file, with the store that its cells are in."""
    from peft_eval.study.file import MOST_CELLS, read_study
    from peft_eval.study.study import Study

    return Study(read_study(file, scale), store.expanduser(), most=None if insist else MOST_CELLS)


def check_suites(study: Study) -> None:
    """Checks that every suite that a study names is there, before anything is trained.

    Raises:
        ConfigError: one is not; near matches are listed.
    """
    from peft_eval.harness.suites import check_tasks
    from peft_eval.plugins import suites

    asked, rule = study.file.evaluate, study.file.choose
    check_tasks([*asked.suites, *asked.curve, *([rule.by] if rule else [])], suites())


def score_columns_of(study: Study) -> list[tuple[str, str]]:
    """Returns suite and metric of every score that the study's runs have."""
    from peft_eval.harness.score_table import score_columns

    suites = [*study.file.evaluate.suites, *([study.file.choose.by] if study.file.choose else [])]
    tables = [dict(run.table) for runs in study.evaluations.runs().values() for run in runs]
    return [(task, metric) for task, metric in score_columns(tables, suites) if task in suites]


def shown(score: float | None) -> str:
    """Returns a score as text: four digits for shares, two for percentages, empty for none."""
    return "" if score is None else f"{score:.4f}" if abs(score) <= 1 else f"{score:.2f}"
