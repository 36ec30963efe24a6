"""Printing rows: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

WIDTH_WHEN_PIPED = 160


def print_json(rows: Any) -> None:
    """Prints anything JSON can hold, keys in the order given."""
    click.echo(json.dumps(rows, indent=1, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Prints a table as wide as the terminal, or 160 characters into a pipe.

    Args:
        columns: the headings.
        rows: one text a column.
        right: headings of the columns to align to the right.
    """
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
