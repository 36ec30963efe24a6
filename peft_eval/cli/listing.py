"""Printing rows: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

WIDTH_WHEN_PIPED = 160
# Laying out a table that fits the terminal takes rich a millisecond a row.
_LONG_TABLE = 200


def print_json(rows: Any) -> None:
    """Prints anything JSON can hold, keys in the order given."""
    click.echo(json.dumps(rows, indent=1, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Prints a table as wide as the terminal, or 160 characters into a pipe; a long one a line a row, however wide.

    Args:
        columns: the headings.
        rows: one text a column.
        right: headings of the columns to align to the right.
    """
    if len(rows) > _LONG_TABLE:
        click.echo("\n".join(_lines(columns, rows, right)))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    Console(width=None if sys.stdout.isatty() else WIDTH_WHEN_PIPED).print(table)


def _lines(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> list[str]:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    aligned = "  ".join(
        f"{{:{'>' if column in right else '<'}{width}}}" for column, width in zip(columns, widths, strict=True)
    )
    return [aligned.format(*row).rstrip() for row in (columns, *rows)]
