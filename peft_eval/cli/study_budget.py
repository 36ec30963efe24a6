"""`peft-eval study budget`: which method to take for a memory, time or byte budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from peft_eval.cli.listing import print_json, print_table
from peft_eval.cli.study_common import FILE, INSIST, JSON, SCALE, STORE, open_study, score_columns_of, shown
from peft_eval.errors import ConfigError

if TYPE_CHECKING:
    from peft_eval.study.budget import Offer
    from peft_eval.study.study import Study


@click.command("budget")
@FILE
@STORE
@SCALE
@INSIST
@click.option("--memory-gib", type=float, help="Most memory while training.")
@click.option("--minutes", type=float, help="Longest training.")
@click.option("--megabytes", type=float, help="Largest checkpoint weights.")
@click.option("--parameters", type=float, help="Most trained weights, e.g. 1e6.")
@click.option("--suite", help="What decides. Default: the first suite of the study.")
@click.option("--metric", help="Of that suite, as rougeL. Default: its first.")
@JSON
def command(
    file: Path,
    store: Path,
    scale: str | None,
    insist: bool,
    suite: str | None,
    metric: str | None,
    as_json: bool,
    **limits: float | None,
) -> None:
    """Say which method to take within a memory, time or byte budget.

    Of the methods that fit, the best one is named, and those that are not decidedly worse (paired, corrected).

    \b
    Examples:
      peft-eval study budget studies/fifteen_methods.toml --scale mini --memory-gib 1.2
      peft-eval study budget rank.toml --megabytes 5 --minutes 10
    """
    from peft_eval.study.budget import Budget, offers
    from peft_eval.study.outcomes import Outcomes

    study = open_study(file, store, scale, insist)
    suite = suite or study.file.evaluate.suites[0]
    column = _column(study, suite, metric)
    run = next(run for runs in study.evaluations.runs().values() for run in runs if run.tasks_of(suite))
    allowed = Budget(
        memory_bytes=limits["memory_gib"] and limits["memory_gib"] * 2**30,
        seconds=limits["minutes"] and limits["minutes"] * 60,
        checkpoint_bytes=limits["megabytes"] and limits["megabytes"] * 1e6,
        trainable_parameters=limits["parameters"],
    )
    better = run.higher_is_better(run.tasks_of(suite)[0], column)
    found = offers(Outcomes(study), allowed, suite, column, higher_is_better=better)
    if as_json:
        print_json([_offer_record(one) for one in found])
        return
    numbers = [column.removesuffix(",none"), "trained weights", "GB", "seconds", "MB", "p"]
    print_table(["method", *numbers, ""], [_offer_row(one) for one in found], right=numbers)


def _column(study: Study, suite: str, metric: str | None) -> str:
    columns = [name for task, name in score_columns_of(study) if task == suite]
    chosen = next((name for name in columns if metric in (None, name, name.split(",")[0])), None)
    if chosen is None:
        said = f"{suite} has no metric {metric}" if columns else f"nothing has scores in {suite}"
        raise ConfigError(said, place=study.file.name, remedy="`peft-eval study status` shows what there is")
    return chosen


def _offer_row(one: Offer) -> list[str]:
    took = one.takes
    return [
        one.arm.name,
        shown(one.score),
        f"{took.trainable_parameters or 0:,.0f}",
        f"{(took.memory_bytes or 0) / 1e9:.2f}",
        f"{took.seconds or 0:,.0f}",
        f"{(took.checkpoint_bytes or 0) / 1e6:.2f}",
        "" if one.corrected is None else f"{one.corrected:.2g}",
        one.verdict,
    ]


def _offer_record(one: Offer) -> dict[str, Any]:
    import dataclasses

    taken = dataclasses.asdict(one.takes)
    return {"method": one.arm.name, "score": one.score, **taken, "p_corrected": one.corrected, "verdict": one.verdict}
