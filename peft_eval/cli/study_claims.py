"""`peft-eval study claims`: what the papers claim, held against results."""

from __future__ import annotations

from pathlib import Path

import click

from peft_eval.cli.listing import print_json, print_table
from peft_eval.cli.study_common import INSIST, JSON, SCALE, STORE, open_study


@click.command("claims")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@STORE
@SCALE
@INSIST
@JSON
def command(files: tuple[Path, ...], store: Path, scale: str | None, insist: bool, as_json: bool) -> None:
    """Hold the two papers' claims against the results of studies.

    Says of each claim: held, not held, or not decided by this data, with the test and the numbers.

    \b
    Examples:
      peft-eval study claims studies/*.toml
      peft-eval study claims studies/*.toml --scale mini --json
    """
    import dataclasses

    from peft_eval.study.claims import findings
    from peft_eval.study.outcomes import Outcomes

    found = findings(Outcomes(open_study(file, store, scale, insist)) for file in files)
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
        return
    print_table(
        ["claim", "paper", "verdict", "numbers"], [[one.claim, one.paper, one.verdict, one.numbers] for one in found]
    )
