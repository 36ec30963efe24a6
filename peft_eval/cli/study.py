"""`peft-eval study`: a grid of runs from one file: plan it, run it, see how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from peft_eval.cli.listing import print_json, print_table
from peft_eval.cli.study_budget import command as budget
from peft_eval.cli.study_claims import command as claims
from peft_eval.cli.study_common import (
    FILE,
    INSIST,
    JSON,
    SCALE,
    STORE,
    check_suites,
    open_study,
    score_columns_of,
    shown,
)

if TYPE_CHECKING:
    from peft_eval.study.cells import Cell
    from peft_eval.study.store import CellFolder, State
    from peft_eval.study.study import Runner, Study

_FAILED = 1


@click.group("study")
def command() -> None:
    """Run a grid of methods, sizes, learning rates, tasks and seeds from one file.

    \b
    Examples:
      peft-eval study plan rank.toml
      peft-eval study run rank.toml --jobs 2
      peft-eval study status rank.toml
      peft-eval study claims studies/*.toml
    """


command.add_command(claims)
command.add_command(budget)


@command.command()
@FILE
@STORE
@SCALE
@INSIST
@click.option("--measure", is_flag=True, help="Train each method for 3 steps first, to estimate the rest.")
@JSON
def plan(file: Path, store: Path, scale: str | None, insist: bool, measure: bool, as_json: bool) -> None:
    """Show a study's cells, what is done, and what the rest will take.

    The estimate comes from cells of the same methods that are done, or from --measure.

    \b
    Example:
      peft-eval study plan rank.toml --measure
    """
    from peft_eval.study.cost import estimate, to_measure

    study = open_study(file, store, scale, insist)
    check_suites(study)
    cells = study.cells()
    trials = [study.folder_of(cell) for cell in to_measure(cells)]
    if measure:
        _measure(trials)
    folders = [study.folder_of(cell) for cell in cells]
    left = [folder.cell for folder in folders if folder.state().status != "done"]
    cost = estimate(left, [*folders, *trials])
    if as_json:
        print_json({"cells": [_record(folder) for folder in folders], "seconds": cost.seconds, "unknown": cost.unknown})
        return
    _print_cells(folders)
    rule = study.file.choose
    if rule:
        click.echo(
            f"Then the best {rule.axis} by {rule.by} ({rule.metric}) is trained with seeds "
            f"{', '.join(map(str, rule.seeds[1:])) or '(none further)'}."
        )
    click.echo(f"{len(cells)} cells, {len(cells) - len(left)} done. Left: {_cost_in_words(cost, len(left))}.")
    if not any(_is_full(cell) for cell in cells):
        click.echo("note: no cell is full fine-tuning, which PEFT methods are measured against: add [methods.full]")


@command.command()
@FILE
@STORE
@SCALE
@INSIST
@click.option("--jobs", type=click.IntRange(1), help="Cells at once. Default: one a GPU, else one for four cores.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Train so many cells at most.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained, then stop.")
@click.option("--ray", metavar="ADDRESS", help="Run the cells on this Ray cluster: HOST:PORT, auto, or local.")
@click.option("--cpus", type=float, default=1.0, show_default=True, help="With --ray: cores of a cell.")
@click.option("--gpus", type=float, help="With --ray: GPUs of a cell, 0.5 for two on one. Default: 1, if any.")
@click.option("--memory-gib", type=float, help="With --ray: main memory of a cell.")
@click.option(
    "--storage", metavar="URL", help="With --ray: where nodes leave results, s3://... , if they share no file system."
)
@click.pass_context
def run(
    ctx: click.Context,
    file: Path,
    store: Path,
    scale: str | None,
    insist: bool,
    jobs: int | None,
    limit: int | None,
    dry_run: bool,
    **ray: Any,
) -> None:
    """Train and evaluate what is left of a study; run again to go on.

    A cell that fails is kept with its log, and the others go on. The exit code is 1 if any has failed.

    \b
    Examples:
      peft-eval study run rank.toml
      peft-eval study run rank.toml --scale smoke --limit 2
      peft-eval study run rank.toml --ray auto --gpus 0.5 --store /shared/cells
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    study = open_study(file, store, scale, insist)
    check_suites(study)
    if dry_run:
        left = [study.folder_of(cell) for cell in study.cells()]
        _print_cells([folder for folder in left if folder.state().status != "done"][:limit])
        return
    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("cells", total=0)
        seen: set[str] = set()
        done: set[str] = set()

        def planned(cells: Sequence[Cell]) -> None:
            seen.update(cell.id for cell in cells)
            done.update(cell.id for cell in cells if study.folder_of(cell).trained)
            progress.update(bar, completed=len(done), total=len(seen))

        def changed(folder: CellFolder, state: State) -> None:
            if state.status == "running":
                progress.update(bar, description=f"training {folder.cell.name}")
                return
            if state.status == "done":
                done.add(folder.cell.id)
                progress.update(bar, completed=len(done))
            progress.console.print(_line(folder, state), highlight=False, soft_wrap=True)

        study.run(
            _runner(study, jobs, ray),
            planned=planned,
            changed=changed,
            say=lambda line: progress.console.print(line, highlight=False),
            log=store / "logs" / f"{study.file.name}.txt",
            limit=limit,
        )
    cells = study.cells()
    _print_results(study, cells)
    states = Counter(study.folder_of(cell).state().status for cell in cells)
    ctx.exit(_FAILED if states["failed"] or states["timed out"] else 0)


command.add_command(
    click.Command(
        "resume",
        callback=run.callback,
        params=run.params,
        help="Go on with a study that was stopped: the same as `run`, which does nothing twice.\n\n"
        "\b\nExample:\n  peft-eval study resume rank.toml",
    )
)


@command.command()
@FILE
@STORE
@SCALE
@INSIST
@JSON
def status(file: Path, store: Path, scale: str | None, insist: bool, as_json: bool) -> None:
    """Show how far a study is, its scores so far, and which runs failed or were not stable.

    \b
    Example:
      peft-eval study status rank.toml --json
    """
    study = open_study(file, store, scale, insist)
    if as_json:
        columns = score_columns_of(study)
        print_json(
            [{**_record(study.folder_of(cell)), "scores": _scores(study, cell, columns)} for cell in study.cells()]
        )
        return
    from peft_eval.study.stability import stability

    cells = study.cells()
    _print_results(study, cells)
    unstable = ended = 0
    for folder in map(study.folder_of, cells):
        state, seen = folder.state(), stability(folder)
        ended += seen is not None
        if state.reason:
            click.echo(f"{folder.cell.name}: {state.status}: {state.reason} ({folder.log})")
        if seen is not None and not seen.stable:
            unstable += 1
            click.echo(f"{folder.cell.name}: not stable: {seen.words}")
    click.echo(f"{unstable} of {ended} runs that ended were not stable")


@command.command()
@FILE
@STORE
@SCALE
@INSIST
def retry(file: Path, store: Path, scale: str | None, insist: bool) -> None:
    """Set the cells that failed, diverged or took too long to be run again.

    \b
    Example:
      peft-eval study retry rank.toml && peft-eval study run rank.toml
    """
    again = open_study(file, store, scale, insist).retry()
    for folder in again:
        click.echo(folder.cell.name)
    click.echo(f"{len(again)} cells will be run again by `peft-eval study run {file}`")


def _runner(study: Study, jobs: int | None, ray: dict[str, Any]) -> Runner:
    """Returns what runs the cells: this machine's processes, or a Ray cluster."""
    minutes = study.file.limits.minutes
    if ray["ray"] is None:
        from peft_eval.study.local import READY, LocalRunner
        from peft_eval.study.study import default_jobs, devices

        return LocalRunner(
            jobs or default_jobs(),
            minutes=minutes,
            devices=devices(),
            task=study.task,
            preload=(*READY, "peft_eval.cli.main"),  # each process imports this command's main module, too
        )
    from peft_eval.study.ray_runner import RayRunner, Resources

    resources = Resources(cpus=ray["cpus"], gpus=ray["gpus"], memory_gib=ray["memory_gib"])
    return RayRunner(ray["ray"], resources=resources, minutes=minutes, task=study.task, storage=ray["storage"])


def _measure(trials: list[CellFolder]) -> None:
    from peft_eval.study.local import LocalRunner

    for folder in trials:
        click.echo(f"measuring {folder.cell.label}", err=True)
        LocalRunner(1).run([folder], lambda folder, state: None)
        state = folder.state()
        if state.status != "done":
            click.echo(f"  {state.status}: {state.reason}", err=True)


def _print_cells(folders: list[CellFolder]) -> None:
    rows = []
    for folder in folders:
        state = folder.state()
        took = f"{state.seconds:,.0f}" if state.seconds else ""
        rows.append([folder.cell.name, folder.cell.id[:8], state.status, took, state.reason])
    print_table(["cell", "id", "status", "seconds", "reason"], rows, right=["seconds"])


def _print_results(study: Study, cells: Sequence[Cell]) -> None:
    """Prints a row for each cell and base, with the table's score in each suite."""
    columns = score_columns_of(study)
    rows = []
    for base in dict.fromkeys(cell.spec.base for cell in study.grid):
        rows.append([f"{base} (base)", "", *(shown(study.evaluations.score(base, *column)) for column in columns)])
    for cell in cells:
        folder = study.folder_of(cell)
        scores = [shown(study.evaluations.score(str(folder.checkpoint), *column)) for column in columns]
        rows.append([cell.name, folder.state().status, *scores])
    heads = [f"{suite}\n{metric.removesuffix(',none')}" for suite, metric in columns]
    print_table(["cell", "status", *heads], rows, right=heads)
    for line in _overlap_lines(study, cells, columns):
        click.echo(line)


def _overlap_lines(study: Study, cells: Sequence[Cell], columns: list[tuple[str, str]]) -> Iterator[str]:
    """Yields, where training data holds questions of a suite, each cell's score without them."""
    from peft_eval.study.contamination import overlapping, score_without

    for cell in cells:
        overlap = study.overlaps.of(cell.spec)
        for suite, metric in columns:
            run = study.evaluations.run(str(study.folder_of(cell).checkpoint), suite)
            if run is None or run.reported(suite, metric) is None:
                continue
            held, questions = overlapping(suite, run, overlap)
            if held:
                without = score_without(run, suite, metric, overlap)
                yield (
                    f"{cell.name}: {held} of {questions} questions of {suite} are in its training data; "
                    f"{metric.removesuffix(',none')} without them {shown(without)}"
                )


def _scores(study: Study, cell: Cell, columns: list[tuple[str, str]]) -> dict[str, Any]:
    checkpoint = str(study.folder_of(cell).checkpoint)
    return {
        f"{suite} {metric}": study.evaluations.score(checkpoint, suite, metric)
        for suite, metric in score_columns_of(study)
    }


def _record(folder: CellFolder) -> dict[str, Any]:
    import dataclasses

    return {
        "id": folder.cell.id,
        "name": folder.cell.name,
        "label": folder.cell.label,
        "coordinates": dict(folder.cell.coordinates),
        **dataclasses.asdict(folder.state()),
        "checkpoint": str(folder.checkpoint),
    }


def _line(folder: CellFolder, state: State) -> str:
    end = f": {state.reason}" if state.reason else f" in {state.seconds:,.1f} s"
    return f"{folder.cell.name} {state.status}{end}"


def _is_full(cell: Cell) -> bool:
    from peft_eval import plugins

    return plugins.methods()[cell.spec.method].kind == "full"


def _cost_in_words(cost: Any, left: int) -> str:
    if not left:
        return "nothing"
    known = f"about {cost.seconds / 60:,.1f} minutes of training, one cell after another" if cost.seconds else ""
    unknown = f"{', '.join(cost.unknown)}: not measured yet (--measure)" if cost.unknown else ""
    return "; ".join(part for part in (known, unknown) if part)
