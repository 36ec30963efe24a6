"""`peft-eval eval`: lm-eval's own run, of one checkpoint as `lm_eval` runs it, or of many in one engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from peft_eval.harness.many import Outcome

_FAILED = 1


@click.command(
    "eval",
    context_settings={"ignore_unknown_options": True},
    epilog="One checkpoint is the same as: lm_eval --model vllm --tasks TASKS --model_args peft=CHECKPOINT",
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="REF",
    help="Folder, zoo:NAME or hub id; several times, or a pattern in quotes. Leave it out for models without one.",
)
@click.option("--tasks", required=True, help="Comma-separated tasks and groups; `peft-eval suites` lists ours.")
@click.option(
    "--base/--no-base", default=None, help="Evaluate the checkpoints' bases too. Default: where there are several."
)
@click.option("--model", default="vllm", show_default=True, help="lm-eval's backend: vllm, hf, copy-input, ...")
@click.option("--model-args", "model_args", multiple=True, metavar="KEY=VALUE", help="More arguments of the backend.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Arguments of the tasks, e.g. superni=DIR.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder for results and samples.")
@click.option(
    "--answers",
    type=click.Path(path_type=Path),
    help="File of stored answers, with --model vllm or hf. Default: answers.sqlite in --output.",
)
@click.option("--no-answers", is_flag=True, help="Ask every question, and keep no answers.")
@click.argument("lm_eval_arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context,
    checkpoints: tuple[str, ...],
    tasks: str,
    base: bool | None,
    model: str,
    model_args: tuple[str, ...],
    metadata: tuple[str, ...],
    output: Path | None,
    answers: Path | None,
    no_answers: bool,
    lm_eval_arguments: tuple[str, ...],
) -> None:
    """Evaluate checkpoints as lm_eval does: one, or many in one engine.

    Further options are handed to lm_eval as they are, such as --limit or --batch_size. With --output, answers are kept
    as they come, and a rerun or a run with more tasks asks only what is missing. The exit code is 1 if a checkpoint
    among several could not be evaluated.

    \b
    Examples:
      peft-eval eval --checkpoint runs/lora-64 --tasks superni_unseen --metadata superni=DIR --output results
      peft-eval eval --checkpoint runs/lora --checkpoint runs/full --tasks mini_unseen --output results
      peft-eval eval --checkpoint 'runs/rank-*' --no-base --tasks mini_unseen --output results --limit 20
      peft-eval eval --model copy-input --tasks superni_unseen --metadata superni=DIR
      peft-eval eval --model-args pretrained=zoo:base --tasks mini_unseen --limit 20
    """
    if answers is not None and no_answers:
        raise click.UsageError("--answers and --no-answers exclude each other", ctx)
    from peft_eval.harness.answers import FILE_NAME, KEEPS_ANSWERS
    from peft_eval.harness.checkpoint_list import expand

    if answers is not None and model not in KEEPS_ANSWERS:
        kept_by = " and ".join(KEEPS_ANSWERS)
        raise click.UsageError(f"--answers: with --model {model} none are kept, with {kept_by} they are", ctx)

    references = expand(checkpoints)
    named: dict[str, Any] = {"tasks": tasks, "model": model, "model_args": model_args, "metadata": metadata}
    kept = None if no_answers else answers or (output / FILE_NAME if output else None)
    if len(references) > 1 or (references and base):
        if output is None:
            raise click.UsageError("several checkpoints need --output DIR", ctx)
        found = _evaluate_many(references, named, output, kept, with_base=base is not False, more=lm_eval_arguments)
        _show(found, tasks)
        ctx.exit(_FAILED if any(outcome.error for outcome in found) else 0)
    if base:
        raise click.UsageError("--base needs a --checkpoint", ctx)
    from peft_eval.harness.single import evaluate_one

    evaluate_one(references[0] if references else None, output=output, answers=kept, more=lm_eval_arguments, **named)


def _evaluate_many(
    references: list[str],
    named: dict[str, Any],
    output: Path,
    answers: Path | None,
    *,
    with_base: bool,
    more: tuple[str, ...],
) -> list[Outcome]:
    from peft_eval.harness.many import Order, evaluate_many, quiet_logs

    quiet_logs()
    order = Order(references, output=output, answers=answers, with_base=with_base, more=more, **named)
    return evaluate_many(order, say=lambda line: click.echo(line, err=True))


def _show(outcomes: list[Outcome], tasks: str) -> None:
    """Prints a table of checkpoints and scores."""
    from rich.console import Console
    from rich.table import Table

    from peft_eval.harness.score_table import score_columns, score_text

    columns = score_columns([outcome.results for outcome in outcomes if outcome.results], tasks.split(","))
    table = Table(title=None)
    table.add_column("checkpoint", overflow="fold")
    for task, metric in columns:
        table.add_column(f"{task}\n{metric}", justify="right")
    for outcome in outcomes:
        name = f"{outcome.row.reference} (base)" if outcome.row.is_base else outcome.row.reference
        cells = [score_text(outcome.results, column) for column in columns] if outcome.results else ["failed"]
        table.add_row(name, *cells)
    Console().print(table)
    for outcome in outcomes:
        for line in [*outcome.notes, *([outcome.error] if outcome.error else [])]:
            named = line.startswith(outcome.row.reference)
            click.echo(line if named else f"{outcome.row.reference}: {line}")
