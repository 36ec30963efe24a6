"""`peft-eval overlap`: which questions of a suite the training data holds already."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from peft_eval.cli.listing import print_json, print_table

if TYPE_CHECKING:
    from peft_eval.checkpoint.manifest import OverlapRecord


@click.command("overlap")
@click.option("--data", required=True, help="Training data, NAME[:LOCATION], as `peft-eval train` takes it.")
@click.option("--suites", required=True, help="Comma-separated tasks and groups; `peft-eval suites` lists ours.")
@click.option("--tasks", type=click.IntRange(1), help="Number of training tasks. Default: all.")
@click.option("--instances-per-task", type=click.IntRange(1), help="At most so many instances of each.")
@click.option("--encoding", default="def", show_default=True, help="Prompt encoding of the training data.")
@click.option("--data-seed", type=int, default=42, show_default=True, help="Seed of the draw of tasks and instances.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Where the suites find data, e.g. superni=DIR.")
@click.option("--output", type=click.Path(path_type=Path), help="Write what was found, each question, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    data: str, suites: str, metadata: tuple[str, ...], output: Path | None, as_json: bool, **selection: Any
) -> None:
    """Find the questions of suites that training data holds.

    A question overlaps if more than half of its words lie in 8-grams of the training prompts, what all prompts of a
    task share left out.

    \b
    Examples:
      peft-eval overlap --data superni:DIR --suites superni_unseen_def --metadata superni=DIR
      peft-eval overlap --data messages:tulu.jsonl --suites tulu_reasoning --output overlap.json
      peft-eval train --base BASE --data superni:DIR --overlap superni_unseen_def --output runs/lora
    """
    from peft_eval import plugins
    from peft_eval.data.source import Selection
    from peft_eval.harness.overlap import overlap_of
    from peft_eval.whole_file import write_whole

    name, _, location = data.partition(":")
    source = plugins.pick("data source", name, plugins.datasets(), place="--data")
    selection["seed"] = selection.pop("data_seed")
    examples = source.load(location or None, Selection(**selection)).examples
    found = overlap_of(examples, suites.split(","), metadata)
    records = {task: record.model_dump() for task, record in found.items()}
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, json.dumps(records, indent=1) + "\n")
    if as_json:
        print_json(records)
        return
    rows = [
        [task, str(record.questions), str(len(record.overlapping)), f"{len(record.overlapping) / record.questions:.1%}"]
        for task, record in found.items()
    ]
    print_table(["task", "questions", "overlapping", "share"], rows, right=["questions", "overlapping", "share"])
    click.echo(told(found))


def told(found: Mapping[str, OverlapRecord]) -> str:
    """Returns one line on what was found."""
    questions = sum(record.questions for record in found.values())
    overlapping = sum(len(record.overlapping) for record in found.values())
    return f"{overlapping:,} of {questions:,} questions overlap with the training data"
