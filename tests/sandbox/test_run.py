"""What an outcome says, and how many programs run at a time."""

from __future__ import annotations

import time

import pytest

from peft_eval.errors import ConfigError
from peft_eval.sandbox import Limits, run_programs
from peft_eval.sandbox.backend import Backend
from peft_eval.sandbox.run import usable_cores


def test_outcomes_are_in_order_and_say_why(sandbox: Backend):
    programs = [
        "import time\ntime.sleep(0.3)\nprint('slow')",
        "assert 1 == 2, 'one\\nis not two'",
        "def f(:\n  pass",
        "raise KeyError('x')",
        "import os\nos.kill(os.getpid(), 15)",
        "pass",
        "",
    ]
    outcomes = run_programs(programs, backend=sandbox, workers=3)
    assert [outcome.passed for outcome in outcomes] == [True, False, False, False, False, True, True]
    assert outcomes[0].output == "slow" and 0.3 <= outcomes[0].seconds < 3
    assert [outcome.error for outcome in outcomes[1:5]] == [
        "AssertionError: one is not two",
        "SyntaxError: invalid syntax (<program>, line 1)",
        "KeyError: 'x'",
        "ended by SIGTERM before its last line",
    ]
    assert not any(outcome.timed_out for outcome in outcomes)


def test_programs_run_at_the_same_time_and_the_start_is_not_counted(sandbox: Backend):
    begun = time.monotonic()
    outcomes = run_programs(["import time\ntime.sleep(0.8)"] * 8, limits=Limits(seconds=2), workers=8, backend=sandbox)
    assert all(outcome.passed for outcome in outcomes)
    assert time.monotonic() - begun < 8 * 0.8 * 0.6


def test_programs_know_nothing_of_each_other(sandbox: Backend):
    program = "import os\nassert os.listdir('/tmp') == []\nopen('/tmp/left', 'w').close()\nos.environ['LEFT'] = '1'"
    assert all(outcome.passed for outcome in run_programs([program] * 6, backend=sandbox))


def test_a_program_runs_as_exec_with_an_empty_namespace_would(sandbox: Backend):
    program = "assert __name__ == 'builtins' and '__file__' not in globals()\nif __name__ == '__main__': 1 / 0"
    assert run_programs([program], backend=sandbox)[0].passed


def test_output_is_kept_up_to_a_bound(sandbox: Backend):
    noisy = "import sys\nprint('a' * 10**7)\nprint('b', file=sys.stderr)"
    outcome = run_programs([noisy], limits=Limits(output_bytes=100), backend=sandbox)[0]
    assert outcome.passed and outcome.output == "a" * 100


def test_no_programs(sandbox: Backend):
    assert run_programs([], backend=sandbox) == []


def test_workers_are_at_least_one(sandbox: Backend):
    with pytest.raises(ConfigError, match="0 programs at a time"):
        run_programs(["pass"], workers=0, backend=sandbox)
    assert usable_cores() >= 1
