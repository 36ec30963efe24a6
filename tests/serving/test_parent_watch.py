"""An engine's processes do not outlive the process that started them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from peft_eval.serving import loader
from peft_eval.serving.parent_watch import end_with_parent

# A process that starts another, which starts a third, as vLLM's engine its worker; each says its number and idles.
PROGRAM = """
import multiprocessing, os, sys, time
from peft_eval.serving.parent_watch import end_with_parent

def run(depth, place):
    end_with_parent()
    if depth:
        multiprocessing.get_context(sys.argv[2]).Process(target=run, args=(depth - 1, place)).start()
    with open(f"{place}/{os.getpid()}", "w"):
        pass
    time.sleep(60)

if __name__ == "__main__":
    run(2, sys.argv[1])
"""


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_killed_parent_takes_its_engine_along(method: str, tmp_path: Path) -> None:
    program, started = tmp_path / "program.py", tmp_path / "started"
    program.write_text(PROGRAM)
    started.mkdir()
    parent = subprocess.Popen([sys.executable, str(program), str(started), method])
    until = time.monotonic() + 60
    while len(list(started.iterdir())) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    family = [psutil.Process(int(path.name)) for path in started.iterdir()]
    assert len(family) == 3
    parent.kill()
    parent.wait()
    assert not psutil.wait_procs(family, timeout=20)[1]


def test_a_process_of_no_parent_is_left_alone() -> None:
    before = threading.active_count()
    end_with_parent()
    assert threading.active_count() == before


def test_vllm_starts_the_watch_in_each_of_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(loader, "end_with_parent", lambda: called.append(True))
    loader.register()
    assert called == [True]
