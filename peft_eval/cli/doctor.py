"""`peft-eval doctor`: the environment, and a checkpoint if one is named, in one screen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from peft_eval.cli.listing import print_json

if TYPE_CHECKING:
    from peft_eval.doctor.check import Check

_MARKS = {"ok": ("green", "ok  "), "note": ("yellow", "note"), "bad": ("red", "BAD ")}
_NAME_WIDTH = 14


@click.command("doctor")
@click.argument("checkpoint", required=False)
@click.option("--base", metavar="BASE", help="Base to use instead of the one that the checkpoint names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@click.pass_context
def command(ctx: click.Context, checkpoint: str | None, base: str | None, as_json: bool) -> None:
    """Check this environment, and a checkpoint if one is named.

    Every bad line ends with its remedy. The exit code is 0 if no line is bad, else 1.

    \b
    Examples:
      peft-eval doctor
      peft-eval doctor runs/lora
      peft-eval doctor ORG/ADAPTER --base path/to/base --json
    """
    from peft_eval.doctor.environment import environment_checks

    if base and not checkpoint:
        raise click.UsageError("--base needs a CHECKPOINT", ctx)
    found = _tell(environment_checks(), silent=as_json)
    if checkpoint:
        from peft_eval.doctor.checkpoint import checkpoint_checks

        if not as_json:
            click.echo()
        found += _tell(checkpoint_checks(checkpoint, base=base), silent=as_json)
    bad = sum(check.state == "bad" for check in found)
    if as_json:
        print_json([asdict(check) for check in found])
    else:
        click.echo(f"\n{bad or 'nothing'} to repair" if bad != 1 else "\n1 line to repair")
    ctx.exit(1 if bad else 0)


def _tell(checks: Iterable[Check], *, silent: bool) -> list[Check]:
    """Prints each check as soon as it is known."""
    told = []
    for check in checks:
        told.append(check)
        if not silent:
            colour, mark = _MARKS[check.state]
            remedy = f" -> {check.remedy}" if check.remedy else ""
            click.echo(f"{click.style(mark, fg=colour)} {check.name:<{_NAME_WIDTH}} {check.found}{remedy}")
    return told
