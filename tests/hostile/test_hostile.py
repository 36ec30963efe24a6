"""Every hostile case is refused by name, quickly, with little memory, and leaves no trace outside its own output."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.corpus import CASES
from tests.tiny import tiny_llama

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 2.0  # of processor time: it does not depend on what else the machine does
MOST_MEGABYTES = 1000


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What happened to each case, by name."""
    work = tmp_path_factory.mktemp("hostile")
    base = tiny_llama(work / "base")
    environment = os.environ | {
        "HOME": str(work / "home"), "XDG_CACHE_HOME": str(work / "home" / "cache"), "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    (work / "cases").mkdir()
    command = [sys.executable, "-m", "tests.hostile.front_doors", str(work / "cases"), str(base)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {case["name"]: case for case in map(json.loads, done.stdout.splitlines())}


def test_what_is_sound_passes(seen: dict[str, dict[str, Any]]) -> None:
    assert seen["sound_adapter"]["exit"] == 0, seen["sound_adapter"]["said"]


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_by_name(name: str, seen: dict[str, dict[str, Any]]) -> None:
    case = seen[name]
    lines = case["said"].strip().splitlines()
    assert case["exit"] == 2, case["said"][-3000:]
    assert all(line.startswith("error: ") and line.isprintable() for line in lines), case["said"][-3000:]
    assert re.search(CASES[name].names, case["said"]), case["said"][-3000:]
    assert case["changed"] == [] and case["left"] == []
    assert case["seconds"] < MOST_SECONDS
    assert case["megabytes"] < MOST_MEGABYTES


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(CASES) >= 60
    assert {case.door for case in CASES.values()} == {
        "checkpoint", "base", "messages", "superni", "suite", "archive", "command"
    }  # fmt: skip
