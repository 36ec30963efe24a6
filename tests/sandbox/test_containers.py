"""Containers: the command line, word for word, and the exchange with an engine that is a stand-in.

The stand-in starts the runner as a plain process: what it shows is that the command line carries the runner, that
programs and verdicts pass through `run --interactive`, and that a program whose time is up is killed by name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from peft_eval.errors import SandboxError
from peft_eval.sandbox import Limits, choose_backend, run_programs
from peft_eval.sandbox.backend import RUNNER
from peft_eval.sandbox.containers import Container

STAND_IN = """#!{python}
import os, signal, sys
from pathlib import Path
folder, words = Path({folder!r}), sys.argv[1:]
with open(folder / "said", "a") as log: log.write(words[0] + "\\n")
if words[0] == "--version":
    print("Docker version 0.0")
elif words[0] == "run":
    Path(folder / words[words.index("--name") + 1]).write_text(str(os.getpid()))
    rest = words[words.index("--entrypoint") + 2 :]
    assert rest[0] == "some/image:1", rest
    os.execv(sys.executable, [sys.executable, *rest[1:]])
elif words[0] == "kill":
    os.kill(int(Path(folder / words[1]).read_text()), signal.SIGKILL)
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in for Docker, the only one on PATH."""
    path = tmp_path / "docker"
    path.write_text(STAND_IN.format(python=sys.executable, folder=str(tmp_path)))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_command_line(engine: Path):
    limits = Limits(memory_bytes=1000, disk_bytes=2000, processes=30)
    command = Container("docker", "some/image:1").command(limits, "a-name")
    assert command[0] == str(engine / "docker")
    text = " ".join(command[1:-1])
    assert text == (
        "run --rm --interactive --init --name a-name --network none --ipc none --read-only --workdir /tmp "
        "--tmpfs /tmp:rw,nosuid,nodev,noexec,size=2000 --memory 1000 --memory-swap 1000 --cpus 1 --pids-limit 32 "
        "--user 65534:65534 --cap-drop ALL --security-opt no-new-privileges --log-driver none "
        "--env HOME=/tmp --env OPENBLAS_NUM_THREADS=1 --entrypoint python3 some/image:1 -I -S -B -X utf8 -c"
    )
    assert command[-1] == RUNNER.read_text()


def test_programs_and_verdicts_pass_through(engine: Path):
    backend = choose_backend("docker", image="some/image:1")
    assert backend.description == "Docker version 0.0, image some/image:1" and backend.isolated
    programs = ["x = 1", "assert False", "import os\nos._exit(0)", "while True: pass"]
    outcomes = run_programs(programs, limits=Limits(seconds=1), backend=backend)
    assert [outcome.passed for outcome in outcomes] == [True, False, False, False]
    assert [outcome.timed_out for outcome in outcomes] == [False, False, False, True]
    assert "kill" in (engine / "said").read_text().splitlines()


def test_an_engine_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("peft_eval.sandbox.exchange.time.sleep", lambda seconds: None)
    (tmp_path / "podman").write_text("#!/bin/sh\necho 'Cannot connect\nto Podman' >&2\nexit 125\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="Cannot connect to Podman"):
        choose_backend("podman")
