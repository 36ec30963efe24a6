"""Reads conversations from a file or the hub, and reports every broken row at once.

A row has `messages`, a list of `role` and `content`, as in allenai/tulu-v2-sft-mixture. `dataset` (where the row comes
from) and `id` are used where they are there; other columns are not looked at.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peft_eval.data.chat import ROLES
from peft_eval.data.source import Example, Message
from peft_eval.data.text_files import parquet_batches
from peft_eval.errors import DataError, PeftEvalError, raise_all
from peft_eval.plain_files import MOST_DATA_BYTES, lines_of, read_bounded, refuse_crowd, shown

READERS = ("jsonl", "json", "parquet")


def read_conversations(location: str) -> tuple[str, list[Example]]:
    """Returns the resolved location and all its conversations, in order.

    Args:
        location: a `.jsonl`, `.json` or `.parquet` file (the first two may be gzipped), or a hub id
            `ORG/NAME[@REVISION]`, of which the split `train` is read.

    Raises:
        DataError, ManyErrors: the file or data set is not there or not of this format; broken rows are named by file
            and line.
    """
    path = Path(location).expanduser()
    if path.is_file():
        rows, resolved, default_task = _rows_of_file(path), str(path.resolve()), path.name.partition(".")[0]
    elif path.is_absolute() or location.startswith((".", "~")) or location.count("/") != 1 or path.suffix in _SUFFIXES:
        raise DataError("there is no such file", place=location, remedy="name a .jsonl, .json or .parquet file")
    else:
        rows, resolved, default_task = _rows_of_hub(location), location, location.partition("@")[0]
    examples: list[Example] = []
    errors: list[PeftEvalError] = []
    seen: dict[tuple[str, str], int] = {}
    for index, (place, row) in enumerate(rows):
        found = row if isinstance(row, str) else _conversation(row, index, default_task, seen)
        if isinstance(found, Example):
            examples.append(found)
        else:
            errors.append(DataError(found, place=place))
    raise_all(errors)
    if not examples:
        raise DataError("there is no row", place=resolved)
    return resolved, examples


_SUFFIXES = {f".{reader}" for reader in READERS}


def _rows_of_file(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields each row with its place; a string in its stead says what is wrong with it."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in _SUFFIXES or (suffix == ".parquet" and path.suffix == ".gz"):
        raise DataError(
            f"{path.suffix or 'no suffix'} is no format of conversations",
            place=str(path),
            remedy="use .jsonl, .json or .parquet",
        )
    try:
        if suffix == ".parquet":
            rows = (row for batch in parquet_batches(path) for row in batch.to_pylist())
            yield from ((f"{path}, row {index}", row) for index, row in enumerate(rows))
        elif suffix == ".json":
            text = read_bounded(path, MOST_DATA_BYTES).decode("utf-8")
            refuse_crowd(text)
            content = json.loads(text)
            if not isinstance(content, list):
                raise DataError("not a JSON list of rows", place=str(path), remedy="one row a line? call it .jsonl")
            yield from ((f"{path}, row {index}", row) for index, row in enumerate(content))
        else:
            for number, line in lines_of(path):
                if line.strip():
                    yield f"{path}:{number}", _decoded(line)
    except (
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        RecursionError,
    ) as error:  # pyarrow raises these too
        raise DataError(f"cannot be read: {error}", place=str(path), remedy="fetch or copy the file again") from error


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not valid JSON: {error}"


def _rows_of_hub(location: str) -> Iterator[tuple[str, Any]]:
    import datasets

    name, _, revision = location.partition("@")
    try:
        rows = datasets.load_dataset(name, revision=revision or None, split="train")
    except Exception as error:  # the hub's clients raise a dozen unrelated types, offline ones included
        lines = str(error).strip().splitlines()
        raise DataError(
            f"neither a file here nor a data set that can be read from the hub: {lines[0] if lines else error!r}",
            place=location,
            remedy="check the spelling, the network and HF_TOKEN, or name a file",
        ) from error
    yield from ((f"{location}, row {index}", row) for index, row in enumerate(rows))


def _conversation(row: Any, index: int, default_task: str, seen: dict[tuple[str, str], int]) -> Example | str:
    """Returns a row's conversation, or what is wrong with it."""
    if not isinstance(row, dict):
        return "not an object"
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return "field 'messages' is missing" if "messages" not in row else "field 'messages' is no list of turns"
    turns: list[Message] = []
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            role = message.get("role") if isinstance(message, dict) else message
            return f"messages[{number}].role is {shown(role)}, none of {', '.join(ROLES)}"
        if not isinstance(message.get("content"), str):
            return f"messages[{number}].content is missing or no text"
        turns.append(Message(message["role"], message["content"]))
    if not any(turn.role == "assistant" for turn in turns):
        return "no turn is the assistant's: there is nothing to learn"
    named = row.get("dataset")
    task = named if isinstance(named, str) and named else default_task
    own_id = str(row["id"]) if row.get("id") not in (None, "") else f"{task}#{index}"
    times = seen[task, own_id] = seen.get((task, own_id), 0) + 1
    # Mixtures repeat rows on purpose; each stays an instance of its own.
    return Example(task, task, own_id if times == 1 else f"{own_id} ({times})", tuple(turns))
