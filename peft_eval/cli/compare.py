"""`peft-eval compare`: whether one checkpoint is better than another, question by question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from peft_eval.cli.listing import print_json, print_table

if TYPE_CHECKING:
    from peft_eval.study.comparing import Row
    from peft_eval.study.results import Run


@click.command("compare")
@click.argument("first", metavar="A[,A...]")
@click.argument("second", metavar="B[,B...]")
@click.option("--by-task", is_flag=True, help="A row for each task of a group as well.")
@click.option("--metric", multiple=True, metavar="NAME", help="Only this metric, e.g. rougeL. May be repeated.")
@click.option("--level", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True, help="Of the intervals.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds the resampling.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    first: str, second: str, by_task: bool, metric: tuple[str, ...], level: float, seed: int, as_json: bool
) -> None:
    """Compare two models on the same questions: difference, interval, corrected p-value.

    A and B are folders that lm_eval wrote with --output_path and --log_samples, or results files. Several of a side,
    joined by commas, are its seeds. Without seeds a difference speaks of these two training runs alone.

    \b
    Examples:
      peft-eval compare results/base results/lora
      peft-eval compare results/lora-s42,results/lora-s127 results/full-s42,results/full-s127
      peft-eval compare results/base results/lora --by-task --metric rougeL --json
    """
    from peft_eval.study.comparing import compare_runs

    sides = [_runs(first), _runs(second)]
    rows, notes = compare_runs(*sides, by_task=by_task, metrics=metric, level=level, seed=seed)
    if as_json:
        print_json({"first": _named(sides[0]), "second": _named(sides[1]), "notes": notes, "rows": _records(rows)})
        return
    for letter, side in zip("AB", sides, strict=True):
        click.echo(f"{letter}: {', '.join(_named(side))}")
    numbers = ["questions", "A", "B", "B - A", f"{level:.0%} interval", "p"]
    print_table(["suite or task", "metric", *numbers, ""], _cells(rows), right=numbers)
    for note in notes:
        click.echo(f"note: {note}")
    click.echo(_reading(rows))


def _runs(names: str) -> list[Run]:
    from peft_eval.study.results import read_run

    return [read_run(Path(name.strip()).expanduser()) for name in names.split(",") if name.strip()]


def _named(side: list[Run]) -> list[str]:
    return [f"{run.name} ({run.folder})" for run in side]


def _cells(rows: list[Row]) -> list[list[str]]:
    shown = []
    for row in rows:
        one = row.difference
        digits = 4 if max(abs(one.first), abs(one.second)) <= 1 else 2
        numbers = [f"{value:.{digits}f}" for value in (one.first, one.second)]
        interval = f"{one.low:+.{digits}f} to {one.high:+.{digits}f}"
        p = "< 0.001" if row.corrected < 0.001 else f"{row.corrected:.3f}"
        name = row.metric.removesuffix(",none")
        shown.append(
            [row.name, name, str(one.questions), *numbers, f"{one.value:+.{digits}f}", interval, p, row.verdict]
        )
    return shown


def _records(rows: list[Row]) -> list[dict[str, Any]]:
    import dataclasses

    return [
        {
            "name": row.name,
            "metric": row.metric,
            **dataclasses.asdict(row.difference),
            "difference": row.difference.value,
            "p_corrected": row.corrected,
            "verdict": row.verdict,
        }
        for row in rows
    ]


def _reading(rows: list[Row]) -> str:
    tests = {
        "mcnemar": "McNemar's exact test",
        "permutation": "a sign-flip permutation test",
        "welch": "Welch's t over seeds and questions",
    }
    used = ", ".join(text for test, text in tests.items() if any(row.difference.test == test for row in rows))
    seeds = max(min(row.difference.seeds) for row in rows)
    scope = "" if seeds > 1 else " One training run a side: nothing is said of other seeds."
    return f"p: {used}, corrected for {len(rows)} comparisons (Holm).{scope}"
