"""Attacks on the host, and on the verdict, in a real bubblewrap."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from peft_eval.sandbox import Limits, Outcome, run_programs
from peft_eval.sandbox.backend import Backend
from tests.sandbox.attacks import DAEMON, ENDLESS, FAILING, HARMLESS, MEMORY_BOMB, outcomes_of

SECRET = "hunter2-of-the-host"
ONE_SECOND = Limits(seconds=1.0)


def runners() -> set[int]:
    """Returns the processes in sandboxes."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        if "/runner.py" in (process.info["cmdline"] or []):
            found.add(process.pid)
    return found


@pytest.fixture(scope="module")
def outcomes(sandbox: Backend, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What became of the attacks that end by themselves, all run once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_TOKEN", SECRET)
        return outcomes_of(HARMLESS, sandbox, tmp_path_factory.mktemp("host"), SECRET)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_the_sandbox_denies(outcomes: dict[str, Outcome], name: str):
    assert outcomes[name].passed, outcomes[name]


@pytest.mark.parametrize("name", FAILING)
def test_no_attack_on_the_verdict_passes(outcomes: dict[str, Outcome], name: str):
    outcome = outcomes[name]
    assert not outcome.passed and not outcome.timed_out, outcome
    assert outcome.error and "\n" not in outcome.error


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_programs_are_ended(sandbox: Backend, name: str):
    begun = time.monotonic()
    outcome = run_programs([ENDLESS[name]], limits=ONE_SECOND, backend=sandbox)[0]
    assert not outcome.passed
    assert outcome.timed_out and outcome.error == "timed out after 1 s", outcome
    assert time.monotonic() - begun < 30  # 1.3 s on an idle machine
    assert len(outcome.output) <= ONE_SECOND.output_bytes
    assert not runners()


def test_a_daemon_does_not_outlive_its_program(sandbox: Backend):
    passed, failed = run_programs([DAEMON, DAEMON + "assert False"], limits=ONE_SECOND, backend=sandbox)
    assert passed.passed and not failed.passed and not failed.timed_out
    assert not runners()


def test_who_leaves_a_child_with_the_pipes_is_seen_to_have_ended(sandbox: Backend):
    leaves = "import os, time\nif os.fork() == 0: time.sleep(1000)\nos._exit(0)"
    outcome = run_programs([leaves], limits=Limits(seconds=20.0), backend=sandbox)[0]
    assert outcome.error == "ended with exit code 0 before its last line" and outcome.seconds < 10
    assert not runners()


def test_memory_of_all_processes_is_bounded(sandbox: Backend):
    limits = Limits(seconds=20.0, memory_bytes=300 << 20)
    outcome = run_programs([MEMORY_BOMB], limits=limits, backend=sandbox)[0]
    assert outcome.error == "used more than 300 MiB of memory", outcome
    assert outcome.seconds < 10
    assert not runners()


def test_the_result_is_lost_only_by_who_closes_it(sandbox: Backend):
    closes_all = "import os\nos.closerange(0, 256)"
    assert not run_programs([closes_all], backend=sandbox)[0].passed
    source = Path(__file__).read_text(encoding="utf-8")
    assert run_programs([f"text = {source!r}" + "\n#" + "x" * 300_000], backend=sandbox)[0].passed
