"""Kills, starves and deceives peft-eval's commands, and compares what they come to with an undisturbed run.

    python scripts/bench_faults.py --kills 50 --output faults.json         all roads and faults, tens of minutes
    python scripts/bench_faults.py --only merge --kills 5                  some of them

A road is a command with a result (hashes of weights, numbers of an evaluation). It runs undisturbed once, which also
says how long it takes; then it is killed (SIGKILL, its process group with it) at random moments and run again, until so
many kills are through. Up to five kills hit one output before it is let through to its end, which has to be that of the
undisturbed run. The other faults (a full disk, a folder that cannot be written, clocks, two at once) are tried on every
road. Servers that are slow, die or send something else are in tests/data/test_fetch.py and tests/faults. Exit code 1 if
anything was lost.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.faults.disturbing import clock_moved, full_disk, read_only, start_again_with_faketime
from tests.faults.processes import finished, killed_at, left_behind, preload, started
from tests.faults.roads import ROADS, Road, prepare

KILLS_ON_ONE_OUTPUT = 5
ENDS_WITHIN_SECONDS = 60.0


@dataclass
class Row:
    """A line of the table: what was tried how often, and how often something was lost."""

    fault: str
    road: str
    tried: int = 0
    lost: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keeps what was seen when something was lost."""
        self.lost += 1
        self.notes.append(text[-400:])


def kills(road: Road, place: Path, count: int, draw: random.Random, expected: object, seconds: float) -> Row:
    """Kills a road `count` times at random moments of its run, and lets every output come to its end."""
    row = Row("SIGKILL at a random moment", road.name)
    for number in itertools.count():
        output = place / f"{road.name}-{number}"
        for _ in range(min(KILLS_ON_ONE_OUTPUT, count - row.tried)):
            running = started(road.run, output)
            # One that came too late, after the end, does not count.
            row.tried += killed_at(running, draw.uniform(0, seconds), alone=road.killed_alone)
            if family := left_behind(running, ENDS_WITHIN_SECONDS):
                row.note(f"left behind: {family}")
        code, said = finished(started(road.run, output))
        if code:
            row.note(f"exit {code}: {said}")
        elif (found := road.result(output)) != expected:
            row.note(f"another result: {found} instead of {expected}")
        if row.tried == count:
            return row
    raise AssertionError("unreachable")


def starved(road: Road, place: Path, expected: object) -> Iterator[Row]:
    """A disk that is full at several moments, a folder that cannot be written: refused in words, then run again."""
    row = Row("the disk is full (tmpfs), then has room", road.name)
    for number, free in enumerate(road.free_bytes):
        output = place / f"{road.name}-full-{number}" / "output"
        with full_disk(output.parent, free) as more_room:
            code, said = finished(started(road.run, output))
            row.tried += 1
            if code not in (0, 1, 2) or "Traceback" in said:
                row.note(f"exit {code} at {free:,} bytes: {said}")
            more_room()
            again, said = finished(started(road.run, output))
            if again or road.result(output) != expected:
                row.note(f"after a full disk: exit {again}: {said}")
    yield row
    row = Row("the folder cannot be written (read-only mount)", road.name, tried=1)
    with read_only(place / f"{road.name}-read-only") as folder:
        code, said = finished(started(road.run, folder / "output"))
        if code not in (1, 2) or "Traceback" in said:
            row.note(f"exit {code}: {said}")
    yield row


def clocks(road: Road, place: Path, expected: object) -> Row:
    """The clock stands years ahead, then years back, with a kill between."""
    row = Row("the clock jumps, ten years forth and back, a kill between", road.name, tried=1)
    output = place / f"{road.name}-clock"
    with clock_moved(years=10):
        killed_at(started(road.run, output), road.some_seconds)
    with clock_moved(years=-10):
        code, said = finished(started(road.run, output))
    if code or road.result(output) != expected:
        row.note(f"exit {code}: {said}")
    return row


def two_at_once(road: Road, place: Path, expected: object) -> Row:
    """Two processes on the same output: one may be turned away in words, the result is whole."""
    row = Row("two processes at once on one output", road.name)
    for number in range(3):
        output = place / f"{road.name}-twice-{number}"
        ends = [finished(one) for one in (started(road.run, output), started(road.run, output))]
        row.tried += 1
        if any(code not in (0, 2) or "Traceback" in said for code, said in ends) or all(code for code, _ in ends):
            row.note(f"exits {[code for code, _ in ends]}: {ends[0][1]} {ends[1][1]}")
        elif road.result(output) != expected:
            row.note("another result")
    return row


def main() -> int:
    """Runs the table and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills a road (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=ROADS, default=list(ROADS))
    parser.add_argument("--without", nargs="*", choices=("kills", "disk", "clock", "twice"), default=[])
    parser.add_argument("--output", type=Path, help="write the table as JSON as well")
    asked = parser.parse_args()
    print(f"clocks are moved by {'libfaketime' if start_again_with_faketime() else 'patching time.time'}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="peft-eval-faults-") as scratch:
        place = Path(scratch)
        preload()
        prepare(place)
        for name in asked.only:
            road, draw = ROADS[name](place), random.Random(f"{asked.seed}/{name}")
            begun = time.monotonic()
            code, said = finished(started(road.run, place / f"{name}-undisturbed"))
            seconds = time.monotonic() - begun
            if code:
                sys.exit(f"error: {name} fails undisturbed: {said[-2000:]}")
            expected = road.result(place / f"{name}-undisturbed")
            print(f"{name}: {seconds:.1f} s undisturbed", flush=True)
            steps: list[tuple[str, Callable[[], list[Row]]]] = [
                ("kills", lambda: [kills(road, place, asked.kills, draw, expected, seconds)]),  # noqa: B023
                ("disk", lambda: list(starved(road, place, expected))),  # noqa: B023
                ("clock", lambda: [clocks(road, place, expected)]),  # noqa: B023
                ("twice", lambda: [two_at_once(road, place, expected)]),  # noqa: B023
            ]
            for step, rows_of in steps:
                if step in asked.without:
                    continue
                for row in rows_of():
                    rows.append(row)
                    print(f"| {row.fault} | {row.road} | {row.tried} | {row.lost} |", flush=True)
                    for note in row.notes:
                        print(f"    {note}", flush=True)
                    if asked.output:
                        asked.output.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
