"""`peft-eval report`: results as one HTML file, with tables and plots as files beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from peft_eval.report.report import Progress, Report

MEGABYTE = 1e6


@click.command("report")
@click.argument("source", metavar="FILE_OR_DIR", type=click.Path(exists=True, path_type=Path))
@click.option("--output", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Where it is written.")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=Path("runs/cells"),
    show_default=True,
    help="Of a study: the folder of all cells.",
)
@click.option("--scale", metavar="NAME", help="Of a study: take the settings of [scales.NAME].")
@click.option("--insist", is_flag=True, help="Of a study: take a grid of more than 10,000 cells.")
@click.option(
    "--samples",
    type=click.IntRange(0),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Samples to keep in the page; of more, the first questions of each task.",
)
def command(source: Path, output: Path, store: Path, scale: str | None, insist: bool, samples: int) -> None:
    """Write results as one HTML file: table, plots, and the samples behind every number.

    The page needs no network. Takes a study's TOML file, or a folder with anything that lm_eval or `peft-eval eval`
    wrote with samples. Beside report.html, the tables are written as CSV, JSON and LaTeX, the plots as PNG and SVG.

    \b
    Examples:
      peft-eval report rank.toml --output report
      peft-eval report studies/instruction_tuning_lr.toml --scale mini --output report
      peft-eval report results --output report
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from peft_eval.report.write import write_report

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def progress(name: str, total: int) -> Callable[[], None]:
            bar = bars.add_task(name, total=total)
            return lambda: bars.advance(bar)

        report = _of_folder(source, samples, progress) if source.is_dir() else None
        report = report or _of_study(source, store, scale, insist, samples, progress)
        written = write_report(report, output, progress=progress)
    if report.samples.kept < report.samples.total:
        click.echo(f"note: {report.samples.kept:,} of {report.samples.total:,} samples are in the page (--samples)")
    size = written.page.stat().st_size / MEGABYTE
    click.echo(f"{written.page}: {len(report.rows)} rows, {report.samples.kept:,} samples, {size:.1f} MB")
    click.echo(f"{len(written.tables)} files of tables, {len(written.plots)} of plots beside it")


def _of_folder(source: Path, samples: int, progress: Progress) -> Report:
    from peft_eval.report.from_folder import entries_of_runs, runs_below, suites_of_runs
    from peft_eval.report.report import report_of

    runs = runs_below(source)
    return report_of(
        entries_of_runs(runs),
        suites_of_runs(run for own in runs.values() for run in own),
        title=source.resolve().name,
        source=str(source),
        most_samples=samples,
        progress=progress,
    )


def _of_study(source: Path, store: Path, scale: str | None, insist: bool, samples: int, progress: Progress) -> Report:
    from peft_eval.report.from_study import claims_of_study, entries_of_study, suites_of_study
    from peft_eval.report.report import report_of
    from peft_eval.study.file import MOST_CELLS, read_study
    from peft_eval.study.study import Study

    study = Study(read_study(source, scale), store.expanduser(), most=None if insist else MOST_CELLS)
    return report_of(
        entries_of_study(study),
        suites_of_study(study),
        title=study.file.title or study.file.name,
        source=f"{source.name}{f', scale {scale}' if scale else ''}",
        claims=claims_of_study(study),
        most_samples=samples,
        progress=progress,
    )
