"""A few seconds of `scripts/bench_faults.py`: every fault once or twice, on the roads that are quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.disturbing import can_mount

ROOT = Path(__file__).parents[2]
ROADS = ("data get", "zoo add", "zoo pull")  # training is killed in tests/training/test_resume.py


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict]:
    """The table that the script writes, by fault and road."""
    place = tmp_path_factory.mktemp("faults")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "TMPDIR": str(place)}
    command = [sys.executable, "scripts/bench_faults.py", "--kills", "3", "--output", str(place / "table.json")]
    command += ["--only", *ROADS]
    if not can_mount(place):
        command += ["--without", "disk"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {(row["fault"], row["road"]): row for row in json.loads((place / "table.json").read_text())}


@pytest.mark.parametrize("road", ROADS)
def test_a_killed_command_comes_to_the_same_end(rows: dict, road: str) -> None:
    row = rows["SIGKILL at a random moment", road]
    assert (row["tried"], row["lost"]) == (3, 0), row["notes"]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    "fault", ["the disk is full (tmpfs), then has room", "the folder cannot be written (read-only mount)"]
)
def test_a_disk_that_refuses_is_told_and_nothing_is_lost(rows: dict, fault: str, road: str, tmp_path: Path) -> None:
    if (fault, road) not in rows:
        pytest.skip("this user may not mount a small disk")
    assert rows[fault, road]["lost"] == 0, rows[fault, road]["notes"]


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize(
    "fault", ["the clock jumps, ten years forth and back, a kill between", "two processes at once on one output"]
)
def test_clocks_and_company_change_nothing(rows: dict, fault: str, road: str) -> None:
    assert rows[fault, road]["lost"] == 0, rows[fault, road]["notes"]
