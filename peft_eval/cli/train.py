"""`peft-eval train`: one method, one base, one source of data; out comes a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from peft_eval.cli.spec_options import GroupedCommand, GroupedOption, spec_options
from peft_eval.training.resolve import from_assignments, from_file, from_options, resolve

EXAMPLES = """\b
Examples:
  LoRA on SuperNI's training tasks, definition only, as in the paper:
    peft-eval train --base meta-llama/Llama-3.2-1B --data superni:DIR --output runs/lora
  Full fine-tuning on 64 tasks for 200 steps:
    peft-eval train --base BASE --method full --data superni:DIR --tasks 64 \\
      --max-steps 200 --output runs/full
  Settings from a file, one of them changed; see what would run:
    peft-eval train --config train.toml --set rank=16 --dry-run
  Continue a run that was killed:
    peft-eval train --config train.toml --resume
  On all GPUs of a machine:
    accelerate launch -m peft_eval.cli.main train --config train.toml

Then evaluate it:
    lm_eval --model vllm --tasks superni_unseen --model_args peft=runs/lora
"""

RUN_OPTIONS: list[click.Parameter] = [
    GroupedOption(["--config"], type=click.Path(path_type=Path), metavar="FILE", help="TOML file of settings."),
    GroupedOption(
        ["--set", "assignments"],
        multiple=True,
        metavar="KEY=VALUE",
        help="A setting by its key; wins over the file, loses to an option.",
    ),
    GroupedOption(["--dry-run"], is_flag=True, help="Print the settings and what the data holds, then stop."),
    GroupedOption(["--resume"], is_flag=True, help="Continue an unfinished run from its newest whole state."),
    GroupedOption(["--overwrite"], is_flag=True, help="Replace what the output folder holds."),
]


def run(
    config: Path | None, assignments: tuple[str, ...], dry_run: bool, resume: bool, overwrite: bool, **options: Any
) -> None:
    """Resolves the settings, then trains or describes what it would do."""
    spec = resolve(from_options(options), from_assignments(assignments), from_file(config) if config else {})
    if dry_run:
        from peft_eval.training.setup import describe, set_up

        click.echo(describe(set_up(spec)))
        return
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    from peft_eval.training.run import train

    train(spec, resume=resume, overwrite=overwrite)


def _command() -> click.Command:
    return GroupedCommand(
        "train",
        callback=run,
        params=[*spec_options(), *RUN_OPTIONS],
        help="Train a checkpoint: one method, one base, one source of data.\n\n" + EXAMPLES,
    )


command = _command()
