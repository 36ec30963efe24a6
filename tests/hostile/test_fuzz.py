"""Readers of strangers' files, given anything: seconds of hypothesis, and what longer fuzzing found (`findings/`)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.readers import READERS, SOUND, read

FINDINGS = sorted((Path(__file__).parent / "findings").glob("*.bin"))
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 3), st.floats(), st.text(max_size=12),
    st.sampled_from(["..", "/etc/passwd", "a\0b", "\x1b[2J", "\ud800", "1e999", "http://x", "(a+)+$", 10**30]),
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
)
ENOUGH = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def places(content: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the way to every value of a JSON document."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [way, *(found for key, value in inner for found in places(value, (*way, key)))]


def changed(content: Any, way: tuple[Any, ...], value: Any) -> Any:
    """Returns a document with another value at a place."""
    if not way:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[way[0]] = changed(content[way[0]], way[1:], value)
    return copy


@pytest.mark.parametrize("name", READERS)
def test_what_is_sound_is_read(name: str, tmp_path: Path) -> None:
    error = read(name, SOUND[name], tmp_path)
    expected = {"manifest": "bytes, the manifest says", "adapter_config": "no network", "zoo_index": "is gone"}
    assert (error is None) == (name not in expected)
    assert error is None or expected[name] in str(error)


@pytest.mark.parametrize("name", [name for name in READERS if name not in ("superni_split", "tensors")])
@ENOUGH
@given(data=st.data())
def test_a_changed_document(name: str, folder: Path, data: st.DataObject) -> None:
    content = json.loads(SOUND[name])
    for _ in range(data.draw(st.integers(1, 3))):
        content = changed(content, data.draw(st.sampled_from(places(content))), data.draw(ANYTHING))
    place = folder / name
    place.mkdir(exist_ok=True)
    read(name, json.dumps(content).encode("utf-8", "surrogatepass"), place)


@pytest.mark.parametrize("name", READERS)
@ENOUGH
@given(data=st.data())
def test_changed_bytes(name: str, folder: Path, data: st.DataObject) -> None:
    content = SOUND[name]
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    place = folder / name
    place.mkdir(exist_ok=True)
    read(name, content[:start] + data.draw(st.binary(max_size=40)) + content[end:], place)


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.stem)
def test_what_fuzzing_found_stays_fixed(path: Path, tmp_path: Path) -> None:
    read(path.stem.partition("-")[0], path.read_bytes(), tmp_path)
