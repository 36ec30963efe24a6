"""Printing rows: a table for people, JSON for programs; no escape sequence in them reaches the terminal."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Any, Literal

import click

WIDTH_WHEN_PIPED = 160
# Laying out a table that fits the terminal takes rich a millisecond a row.
_LONG_TABLE = 200
_BETWEEN = 3  # characters between two columns
_NOT_PLAIN = re.compile(r"[^\n\x20-\x7e]")


def printable(text: str) -> str:
    """Returns text that a stranger may have written with its control signs spelt out: `\\x1b` for an escape."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def print_json(rows: Any) -> None:
    """Prints anything JSON can hold, keys in the order given."""
    # JSON itself spells out the control signs of ASCII, not those above it, which some terminals obey as well.
    text = json.dumps(rows, indent=1, ensure_ascii=False)
    click.echo(_NOT_PLAIN.sub(lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Prints a table as wide as the terminal, or 160 characters into a pipe.

    A long one, and one of so many columns that headings or numbers would break, is printed a line a row, however wide.

    Args:
        columns: the headings.
        rows: one text a column.
        right: headings of the columns to align to the right.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_WHEN_PIPED
    least = [_longest_word([name, *(row[at] for row in rows if name in right)]) for at, name in enumerate(columns)]
    if len(rows) > _LONG_TABLE or sum(least) + _BETWEEN * len(columns) > width:
        click.echo("\n".join(_lines(columns, rows, right)))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, characters in zip(columns, least, strict=True):
        side: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=side, overflow="fold", min_width=characters)
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    Console(width=width).print(table)


def _longest_word(cells: Sequence[str]) -> int:
    return max(len(word) for cell in cells for word in (cell.split() or [""]))


def _lines(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> list[str]:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    aligned = "  ".join(
        f"{{:{'>' if column in right else '<'}{width}}}" for column, width in zip(columns, widths, strict=True)
    )
    return [aligned.format(*row).rstrip() for row in (columns, *rows)]
