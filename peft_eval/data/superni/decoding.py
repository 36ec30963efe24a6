"""Decodes a task file only as far as it is needed.

A real file has up to 6,500 instances, of which the rules use the first 100 or 200. Decoding no more than those makes
757 files of real size a matter of seconds, so that nothing has to be cached. What lies behind is not looked at, but
for the closing brace, which a file that was cut off does not have.
"""

from __future__ import annotations

import json
import re
from typing import Any

_NEEDED_BEFORE_INSTANCES = {"Categories", "Definition", "Positive Examples", "Negative Examples"}
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def decode_task(text: str, instances: int | None) -> Any:
    """Returns a file's content, with at most so many leading instances; None for all.

    Raises:
        ValueError: it is not valid JSON.
        RecursionError: it is nested without end.
    """
    if instances is not None:
        fields = _leading_part(text, instances)
        if fields is not None:
            return fields
    return json.loads(text)


def _leading_part(text: str, instances: int) -> dict[str, Any] | None:
    """Decodes a file up to its first `instances` instances.

    Returns:
        The fields, or None where the file is unusual in any way: then all of it has to be decoded.
    """
    if not text.rstrip().endswith("}"):
        return None
    fields: dict[str, Any] = {}
    try:
        position = _after(text, "{", 0)
        while True:
            key, position = _DECODER.raw_decode(text, position)
            position = _after(text, ":", position)
            if key == "Instances":
                fields[key] = _leading_items(text, position, instances)
                return fields if fields.keys() >= _NEEDED_BEFORE_INSTANCES else None
            fields[key], position = _DECODER.raw_decode(text, position)
            position = _after(text, ",", position)
    except (ValueError, TypeError):
        return None


def _leading_items(text: str, position: int, count: int) -> list[Any]:
    items: list[Any] = []
    position = _after(text, "[", position)
    while len(items) < count:
        item, position = _DECODER.raw_decode(text, position)
        items.append(item)
        position = _spaces(text, position)
        if text[position : position + 1] == "]":
            break
        position = _after(text, ",", position)
    return items


def _spaces(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _after(text: str, mark: str, position: int) -> int:
    position = _spaces(text, position)
    if text[position : position + 1] != mark:
        raise ValueError(f"expected {mark!r} at {position}")
    return _spaces(text, position + 1)
