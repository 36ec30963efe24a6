"""Writes docs/cli.md from the commands themselves; tests/test_docs.py fails when it is stale.

python scripts/write_cli_reference.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from peft_eval.cli.main import cli

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
PREFACE = """# The command line

Written by `scripts/write_cli_reference.py`. Errors are one line on stderr; the exit codes are 0, 1 (`doctor` found
something to repair), 2 (a wrong option, file or checkpoint) and 130 (interrupted).
"""


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yields every command with its full name, groups before what is in them."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, f"{path} {name}")


def reference() -> str:
    """Returns the whole page."""
    return "\n".join([PREFACE, *(section(path, command) for path, command in commands(cli, "peft-eval"))])


def section(path: str, command: click.Command) -> str:
    """Returns one command's part: usage, help, options."""
    arguments = " ".join(one.human_readable_name.upper() for one in command.params if isinstance(one, click.Argument))
    lines = [f"## {path}", "", *paragraphs(command.help or "")]
    if arguments:
        lines += [f"Arguments: `{arguments}`", ""]
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if options:
        lines += ["| option | meaning | default |", "|---|---|---|", *map(row, options), ""]
    return "\n".join(lines)


def paragraphs(text: str) -> list[str]:
    """Returns a help text as Markdown; a paragraph that click keeps as it is becomes a code block."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            lines += ["```text", *paragraph.splitlines()[1:], "```", ""]
        else:
            lines += [" ".join(paragraph.split()), ""]
    return lines


def row(option: click.Option) -> str:
    """Returns an option's row of the table."""
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    cells = [f"{names} {value_of(option)}".strip(), option.help or "", default_of(option)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def value_of(option: click.Option) -> str:
    """Returns what follows an option's name, nothing for a flag."""
    if option.is_flag:
        return ""
    if option.metavar:
        return option.metavar
    return "|".join(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else "VALUE"


def default_of(option: click.Option) -> str:
    """Returns the default as the command itself tells it."""
    if isinstance(option.show_default, str):
        return option.show_default
    return str(option.default) if option.show_default and option.default is not None else ""


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(reference(), encoding="utf-8")
