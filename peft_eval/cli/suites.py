"""`peft-eval suites`: which names `lm_eval --tasks` takes, what they measure and which data they need."""

from __future__ import annotations

from dataclasses import asdict

import click

from peft_eval.cli.listing import print_json, print_table


@click.command("suites")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(as_json: bool) -> None:
    """List the evaluation suites.

    \b
    Examples:
      peft-eval suites
      peft-eval suites --json | jq -r '.[].name'
      lm_eval --model vllm --tasks mini_unseen --model_args peft=runs/lora
    """
    from peft_eval.harness.suites import read_suites
    from peft_eval.plugins import suites

    found = read_suites(suites())
    if as_json:
        print_json([asdict(suite) for suite in found])
        return
    rows = [[suite.name, str(suite.tasks), suite.measures, suite.data, suite.folder] for suite in found]
    print_table(["suite", "tasks", "measures", "data needed", "folder"], rows, right=["tasks"])
