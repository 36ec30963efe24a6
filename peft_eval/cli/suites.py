"""`peft-eval suites`: which names `lm_eval --tasks` takes, what they measure and which data they need."""

from __future__ import annotations

from dataclasses import asdict

import click

from peft_eval.cli.listing import print_json, print_table


@click.command("suites")
@click.argument("words", metavar="[WORD]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(words: tuple[str, ...], as_json: bool) -> None:
    """List the evaluation suites.

    With WORDs, only those with one of them in their names.

    \b
    Examples:
      peft-eval suites
      peft-eval suites superni mini
      peft-eval suites --json | jq -r '.[].name'
      lm_eval --model vllm --tasks mini_unseen --model_args peft=runs/lora
    """
    from peft_eval.errors import unknown_name
    from peft_eval.harness.suites import read_suites
    from peft_eval.plugins import suites

    known = read_suites(suites())
    for word in words:
        if not any(word in suite.name for suite in known):
            raise unknown_name("suite", word, [suite.name for suite in known])
    found = [suite for suite in known if not words or any(word in suite.name for word in words)]
    if as_json:
        print_json([asdict(suite) for suite in found])
        return
    rows = [[suite.name, str(suite.tasks), suite.measures, suite.data, suite.folder] for suite in found]
    print_table(["suite", "tasks", "measures", "data needed", "folder"], rows, right=["tasks"])
