"""`peft-eval train`: one method, one base, one source of data; out comes a checkpoint."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from peft_eval.cli.spec_options import GroupedCommand, GroupedOption, spec_options
from peft_eval.errors import ConfigError, first_few
from peft_eval.training.resolve import from_assignments, from_file, from_options, resolve
from peft_eval.training.spec import TrainSpec

DEFAULT_METHOD: str = TrainSpec.model_fields["method"].default

EXAMPLES = """\b
Examples:
  LoRA on SuperNI's training tasks, definition only, as in the paper:
    peft-eval train --base meta-llama/Llama-3.2-1B --data superni:DIR --output runs/lora
  Full fine-tuning on 64 tasks for 200 steps:
    peft-eval train --base BASE --method full --data superni:DIR --tasks 64 \\
      --max-steps 200 --output runs/full
  Another method, and what its options are:
    peft-eval train --method vera --help
    peft-eval train --base BASE --method vera --rank 128 --data mini --output runs/vera
  Settings from a file, one of them changed; see what would run:
    peft-eval train --config train.toml --set rank=16 --dry-run
  Continue a run that was killed:
    peft-eval train --config train.toml --resume
  On all GPUs of a machine:
    accelerate launch -m peft_eval.cli.main train --config train.toml

\b
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
    GroupedOption(
        ["--overlap"],
        metavar="SUITES",
        help="Note in the manifest which questions of these suites the data holds; see `peft-eval overlap`.",
    ),
    GroupedOption(
        ["--metadata"], multiple=True, metavar="KEY=VALUE", help="Where those suites find data, e.g. superni=DIR."
    ),
]


def run(
    config: Path | None,
    assignments: tuple[str, ...],
    dry_run: bool,
    resume: bool,
    overwrite: bool,
    overlap: str | None,
    metadata: tuple[str, ...],
    **options: Any,
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

    look = functools.partial(_overlap, suites=overlap.split(","), metadata=metadata) if overlap else None
    train(spec, resume=resume, overwrite=overwrite, overlap=look)


def _overlap(examples: Sequence[Any], *, suites: list[str], metadata: tuple[str, ...]) -> dict[str, Any]:
    from peft_eval.cli.overlap import told
    from peft_eval.harness.overlap import overlap_of

    found = overlap_of(examples, suites, metadata)
    click.echo(told(found))
    return found


class TrainCommand(GroupedCommand):
    """The command with the options of one method: the one that its arguments name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes the options of the method that is named, before click reads them.

        Raises:
            ConfigError: an option belongs to another method.
        """
        from peft_eval import plugins

        methods = plugins.methods()
        name = _method_named(args)
        if name in methods:
            self.params = [*spec_options(methods[name]), *RUN_OPTIONS]
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption as error:
            key = error.option_name.lstrip("-").removeprefix("no-").replace("-", "_")
            owners = [other for other, method in methods.items() if key in method.options.model_fields]
            if not owners:
                raise
            what = f"unknown method {name!r}" if name not in methods else f"method {name} has no such option"
            raise ConfigError(what, place=error.option_name, remedy=f"it belongs to {first_few(owners)}") from None


def _method_named(arguments: list[str]) -> str:
    """Returns the method in the arguments or the file they name, the first of: option, `--set`, file, default."""
    given = dict(_pairs(arguments))
    if "--method" in given:
        return given["--method"]
    for option, value in _pairs(arguments):
        if option == "--set" and value.partition("=")[0].strip() == "method":
            return str(from_assignments([value])["method"][0])
    if "--config" in given:
        with contextlib.suppress(ConfigError):  # said when the settings are resolved
            return str(from_file(Path(given["--config"])).get("method", (DEFAULT_METHOD, ""))[0])
    return DEFAULT_METHOD


def _pairs(arguments: list[str]) -> Iterator[tuple[str, str]]:
    for position, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if equals and option in ("--method", "--config", "--set"):
            yield option, value
        elif position + 1 < len(arguments):
            yield argument, arguments[position + 1]


def _command() -> click.Command:
    from peft_eval import plugins

    return TrainCommand(
        "train",
        callback=run,
        params=[*spec_options(plugins.methods()[DEFAULT_METHOD]), *RUN_OPTIONS],
        help="Train a checkpoint: one method, one base, one source of data.\n\n" + EXAMPLES,
    )


command = _command()
