"""Reading the text files of a data set, with the file and the line in every error."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft_eval.errors import DataError, raise_all
from peft_eval.plain_files import MOST_DATA_BYTES, UnsafeFileError, lines_of, open_plain, read_bounded, strict_json

# What reading a file as text raises where it is damaged, no plain file, or larger than it may be.
UNREADABLE = (OSError, EOFError, zlib.error, UnicodeDecodeError, UnsafeFileError)


def read_text(path: Path, remedy: str) -> str:
    """Returns a UTF-8 file's text, line ends as they are; that of a `.gz` is decompressed.

    Raises:
        DataError: it is not there or not UTF-8.
    """
    try:
        return read_bounded(path, MOST_DATA_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise DataError("there is no such file", place=str(path), remedy=remedy) from None
    except UNREADABLE as error:
        raise DataError(f"the file cannot be read: {error}", place=str(path), remedy=remedy) from error


def read_json(path: Path, remedy: str) -> Any:
    """Returns the content of a JSON file.

    Raises:
        DataError: it is not there or not JSON.
    """
    try:
        return strict_json(read_text(path, remedy))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", place=str(path), remedy=remedy) from error


def read_json_lines(path: Path, fields: tuple[str, ...], remedy: str) -> list[dict[str, Any]]:
    """Returns the objects of a JSON Lines file, which have to have some text fields; blank lines are passed over.

    Raises:
        DataError: it is not there, lacks a field throughout, or lines are wrong; every one is named.
    """
    rows: list[dict[str, Any]] = []
    errors: list[DataError] = []
    try:
        for number, line in lines_of(path):
            if line.strip():
                _read_line(line, f"{path}:{number}", fields, rows, errors)
    except FileNotFoundError:
        raise DataError("there is no such file", place=str(path), remedy=remedy) from None
    except UNREADABLE as error:
        raise DataError(f"the file cannot be read: {error}", place=str(path), remedy=remedy) from error
    missing = [name for name in fields if rows and all(name not in row for row in rows)]
    if missing:
        found = ", ".join(rows[0])
        raise DataError(f"no column {' or '.join(missing)}, but {found}", place=str(path), remedy=remedy)
    raise_all(errors)
    if not rows:
        raise DataError("the file is empty", place=str(path), remedy=remedy)
    return rows


def parquet_batches(path: Path, columns: list[str] | None = None) -> Iterator[Any]:
    """Yields a Parquet file's rows in pyarrow's batches.

    Raises:
        UnsafeFileError: it is no plain file, or grows beyond measure: a value a thousand bits tell may stand in
            millions of rows.
        pyarrow.ArrowException, OSError: it is no whole Parquet file.
    """
    from pyarrow import parquet

    with open_plain(path) as opened, parquet.ParquetFile(opened) as file:
        stored, told = path.stat().st_size, file.metadata
        groups = [told.row_group(number).total_byte_size for number in range(told.num_row_groups)]
        if told.num_rows > stored or sum(groups) > max(1 << 26, 100 * stored):
            raise UnsafeFileError(f"{stored:,} bytes that unpack to {told.num_rows:,} rows, {sum(groups):,} bytes")
        for batch in file.iter_batches(batch_size=256, columns=columns):
            if batch.nbytes > MOST_DATA_BYTES:
                raise UnsafeFileError(f"256 of its rows take {batch.nbytes:,} bytes")
            yield batch


def _read_line(
    line: str, place: str, fields: tuple[str, ...], rows: list[dict[str, Any]], errors: list[DataError]
) -> None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        errors.append(DataError(f"not valid JSON: {error}", place=place))
        return
    if not isinstance(row, dict):
        errors.append(DataError("not a JSON object", place=place))
        return
    wrong = [name for name in fields if not isinstance(row.get(name), str)]
    if wrong:
        errors.append(DataError(f"no text in {' and '.join(wrong)}", place=place))
    rows.append(row)
