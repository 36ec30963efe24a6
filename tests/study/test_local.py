"""The runner: one cell's end is not another's, nothing is done twice, nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from peft_eval.errors import DiskFullError
from peft_eval.study.cells import Cell, cells_of
from peft_eval.study.file import StudyFile
from peft_eval.study.local import LocalRunner
from peft_eval.study.store import CellFolder, State
from tests.study.cell_tasks import act, needs_room, sees_device

STUDY = {
    "name": "seeds",
    "train": {"base": "zoo:base", "data": "mini", "tasks": 1, "max_steps": 1},
    "methods": {"lora": {}},
    "evaluate": {"suites": ["mini_unseen"]},
}


def cells(*seeds: int) -> list[Cell]:
    return cells_of(StudyFile.model_validate({**STUDY, "axes": {"seed": list(seeds)}}))


def run(store: Path, *seeds: int, jobs: int = 2, minutes: float | None = None, task=act) -> dict[int, State]:
    folders = [CellFolder(store, cell) for cell in cells(*seeds)]
    LocalRunner(jobs, minutes=minutes, task=task, preload=[]).run(folders, lambda folder, state: None)
    return {folder.cell.spec.seed: folder.state() for folder in folders}


def test_each_end_is_its_own(tmp_path):
    states = run(tmp_path, 1, 10, 2, 3, 4, 5, 11, minutes=0.05)
    assert {seed: state.status for seed, state in states.items()} == {
        1: "failed",
        2: "failed",
        3: "failed",
        4: "timed out",
        5: "diverged",
        10: "done",
        11: "done",
    }
    assert states[1].reason == "data: no such file (fetch it)"
    assert states[2].reason == "RuntimeError: a bug"
    assert states[3].reason == "killed by the system, most likely out of memory"
    assert states[4].reason == "not done after 0.05 minutes" and states[4].seconds >= 3
    assert states[5].reason == "the loss became nan at step 3"
    assert all(state.attempts == 1 for state in states.values())
    (hung,) = (CellFolder(tmp_path, cell) for cell in cells(4))
    assert "seed 4" in hung.log.read_text()
    assert not [
        one for one in psutil.Process().children(recursive=True) if "time.sleep(600)" in " ".join(one.cmdline())
    ]


def test_a_full_disk_is_no_cells_fault(tmp_path):
    with pytest.raises(DiskFullError, match=r"no space left on the disk .free some, then run the study again"):
        run(tmp_path, 10, 11, jobs=1, task=needs_room)
    states = [CellFolder(tmp_path, cell).state() for cell in cells(10, 11)]
    assert [state.status for state in states] == ["pending", "pending"]
    (tmp_path / "room").touch()
    assert {state.status for state in run(tmp_path, 10, 11, task=needs_room).values()} == {"done"}


def test_what_is_done_is_not_done_again(tmp_path):
    run(tmp_path, 10, 11)
    run(tmp_path, 10, 11, 12)
    for cell in cells(10, 11, 12):
        assert (CellFolder(tmp_path, cell).checkpoint / "runs").read_text() == "x"


def test_devices_are_given_out_in_turn(tmp_path):
    folders = [CellFolder(tmp_path, cell) for cell in cells(10, 11, 12, 13)]
    runner = LocalRunner(2, task=sees_device, preload=[], devices=["3", "5"])
    runner.run(folders, lambda folder, state: None)
    given = [folder.log.read_text().splitlines()[0] for folder in folders]
    assert set(given) == {"device 3", "device 5"} and given[:2] == ["device 3", "device 5"]


@pytest.mark.parametrize(("said", "threads"), [("3", 3), ("4,2", 4), ("0", None), ("many", None), ("", None)])
def test_the_number_of_threads_that_the_user_set_holds(monkeypatch, said, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert LocalRunner(1, preload=[]).threads == (threads or os.cpu_count())
    assert LocalRunner(1, threads=7, preload=[]).threads == 7


def test_two_runners_share_the_cells(tmp_path):
    program = (
        "from pathlib import Path\n"
        "from tests.study.test_local import run\n"
        "from tests.study.cell_tasks import slowly\n"
        f"if __name__ == '__main__': run(Path({str(tmp_path)!r}), 10, 11, 12, 13, jobs=1, task=slowly)\n"
    )
    script = tmp_path / "runner.py"
    script.write_text(program)
    both = [
        subprocess.Popen([sys.executable, str(script)], cwd=Path(__file__).parents[2], env=_with_path()) for _ in "ab"
    ]
    assert [one.wait(120) for one in both] == [0, 0]
    for cell in cells(10, 11, 12, 13):
        assert (CellFolder(tmp_path, cell).checkpoint / "runs").read_text() == "x"


def _with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_a_killed_runner_takes_its_cells_along_and_they_run_again(tmp_path):
    script = tmp_path / "runner.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tests.study.test_local import run\n"
        f"if __name__ == '__main__': run(Path({str(tmp_path / 'store')!r}), 4, jobs=1)\n"
    )
    runner = subprocess.Popen([sys.executable, str(script)], cwd=Path(__file__).parents[2], env=_with_path())
    (folder,) = (CellFolder(tmp_path / "store", cell) for cell in cells(4))
    deadline = time.monotonic() + 60
    while not folder.log.is_file() or "seed 4" not in folder.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    hung = [one for one in psutil.process_iter(["cmdline"]) if "time.sleep(600)" in " ".join(one.info["cmdline"] or [])]
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    psutil.wait_procs(hung, timeout=20)
    assert not [one for one in hung if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert folder.state().status == "running"  # which nobody holds any more: it is begun again
    lock = folder.lock()
    assert lock is not None
    lock.release()


@pytest.mark.parametrize("content", ["{", "[]", '{"status": "odd"}', '{"unknown": 1}'])
def test_a_broken_state_is_named(tmp_path, content):
    (folder,) = (CellFolder(tmp_path, cell) for cell in cells(10))
    folder.write(State())
    (folder.folder / "state.json").write_text(content)
    with pytest.raises(Exception, match=r"state\.json"):
        folder.state()
