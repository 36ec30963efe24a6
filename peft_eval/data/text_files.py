"""Reading the text files of a data set, with the file and the line in every error."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from peft_eval.errors import DataError, raise_all


def read_text(path: Path, remedy: str) -> str:
    """Returns a UTF-8 file's text, line ends as they are; that of a `.gz` is decompressed.

    Raises:
        DataError: it is not there or not UTF-8.
    """
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except FileNotFoundError:
        raise DataError("there is no such file", place=str(path), remedy=remedy) from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"the file cannot be read: {error}", place=str(path), remedy=remedy) from error


def read_json(path: Path, remedy: str) -> Any:
    """Returns the content of a JSON file.

    Raises:
        DataError: it is not there or not JSON.
    """
    try:
        return json.loads(read_text(path, remedy))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", place=str(path), remedy=remedy) from error


def read_json_lines(path: Path, fields: tuple[str, ...], remedy: str) -> list[dict[str, Any]]:
    """Returns the objects of a JSON Lines file, which have to have some text fields; blank lines are passed over.

    Raises:
        DataError: it is not there, or lines are wrong; every one is named.
    """
    rows, errors = [], []
    for number, line in enumerate(read_text(path, remedy).split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            errors.append(DataError(f"not valid JSON: {error}", place=place))
            continue
        if not isinstance(row, dict):
            errors.append(DataError("not a JSON object", place=place))
            continue
        wrong = [name for name in fields if not isinstance(row.get(name), str)]
        if wrong:
            errors.append(DataError(f"no text in {' and '.join(wrong)}", place=place))
        rows.append(row)
    raise_all(errors)
    if not rows:
        raise DataError("the file is empty", place=str(path), remedy=remedy)
    return rows
