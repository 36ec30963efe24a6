"""The command line's frame: finds a subcommand's module only when it runs, and prints errors as one line.

Each subcommand is one file, `peft_eval/cli/<name>.py`, with a click command called `command`. Its
summary is repeated here, so that `peft-eval --help` imports none of them; a test compares the two.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from peft_eval import __version__
from peft_eval.cli.listing import printable
from peft_eval.errors import ManyErrors, PeftEvalError, causes, unknown_name

COMMANDS = {
    "train": "Train a checkpoint: one method, one base, one source of data.",
    "eval": "Evaluate checkpoints as lm_eval does: one, or many in one engine.",
    "compare": "Compare two models on the same questions: difference, interval, corrected p-value.",
    "merge": "Write base + adapter as a plain model folder, merged tensor by tensor.",
    "study": "Run a grid of methods, sizes, learning rates, tasks and seeds from one file.",
    "zoo": "Share checkpoints: list, search, show, add, verify, pull, push, remove.",
    "report": "Write results as one HTML file: table, plots, and the samples behind every number.",
    "data": "Fetch instruction data and look at it.",
    "overlap": "Find the questions of suites that training data holds.",
    "doctor": "Check this environment, and a checkpoint if one is named.",
    "suites": "List the evaluation suites.",
    "methods": "List the training methods; with a NAME, show that method's options.",
}
USER_ERROR = 2
INTERRUPTED = 130


class LazyGroup(click.Group):
    """A group that imports `peft_eval.cli.<name>` when that subcommand is called, and prints errors as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names in the order of the work: train first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns one subcommand, None if there is no such name."""
        if cmd_name not in COMMANDS:
            return None
        # peft imports bitsandbytes where it is there, which warns at each start of a kernel that it could download.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        command: click.Command = importlib.import_module(f"peft_eval.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes names and summaries from `COMMANDS`, importing nothing."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the subcommand.

        Raises:
            ConfigError: there is no such subcommand; near matches are listed.
        """
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown_name("command", args[0], COMMANDS, place=ctx.command_path)
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]  # click's overloads tell standalone mode from the other; here both end the process
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Runs the command line and ends the process with its exit code: 0, 1 (a check failed), 2 or 130."""
        extra["standalone_mode"] = False
        with errors_as_one_line():
            code = super().main(args, prog_name or "peft-eval", **extra)
            sys.exit(code if isinstance(code, int) else 0)
        raise AssertionError("unreachable")


@contextlib.contextmanager
def errors_as_one_line() -> Iterator[None]:
    """Turns errors that a user can cause into `error: ...` on stderr and an exit code; a bug keeps its traceback."""
    try:
        yield
    except ManyErrors as error:
        _leave([str(one) for one in error.errors], error.exit_code)
    except PeftEvalError as error:
        _leave([str(error)], error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(USER_ERROR)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "peft-eval"
        _leave([f"{where}: {error.format_message().rstrip('.')} (see {where} --help)"], USER_ERROR)
    except click.ClickException as error:
        _leave([error.format_message()], USER_ERROR)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except Exception as error:
        line = _line_of_system_error(error)
        if line is None:
            raise
        _leave([line], USER_ERROR)


def _leave(lines: list[str], code: int) -> NoReturn:
    for line in lines:
        click.echo(f"error: {printable(line)}", err=True)  # what a stranger's file says may stand in it
    sys.exit(code)


def _line_of_system_error(error: BaseException) -> str | None:
    """Returns a line for a full disk or a refused permission, wherever in the chain of causes it is.

    safetensors and torch report a full disk as errors of their own, known by the system's words alone.
    """
    for seen in causes(error):
        name = getattr(seen, "filename", None)
        place = f"{name}: " if name else ""
        number = seen.errno if isinstance(seen, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(seen):
            return f"{place}no space left on the device (free some, or choose another folder)"
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"{place}{os.strerror(number).lower()} (change its permissions, or choose another folder)"
    return None


@click.group(
    "peft-eval",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has worked examples: peft-eval train --help",
)
@click.version_option(__version__, prog_name="peft-eval")
def cli() -> None:
    """Train PEFT checkpoints, evaluate them with lm-eval on vLLM, compare them fairly.

    \b
    peft-eval train --base BASE --method lora --data mini --output runs/lora
    lm_eval --model vllm --tasks mini_unseen --model_args peft=runs/lora
    """


def main() -> NoReturn:
    """The console script `peft-eval`."""
    cli.main()


if __name__ == "__main__":
    main()
