"""The same attacks when an ordinary user evaluates; as root, tests become one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import tqdm

from tests.sandbox.attacks import DAEMON, ENDLESS, FAILING, HARMLESS, harmless

ROOT = Path(__file__).parents[2]
NOBODY = 65534
RUN = """
import json, os, sys
from peft_eval.errors import SandboxError
from peft_eval.sandbox import Limits, choose_backend, run_programs
try:
    backend = choose_backend("bubblewrap")
except SandboxError as error:
    sys.exit(f"skip: {error}")
outcomes = run_programs(json.load(sys.stdin), limits=Limits(seconds=2.0), backend=backend)
print(json.dumps({"uid": os.getuid(), "outcomes": [outcome.as_record() for outcome in outcomes]}))
"""
# Programs that say nothing about a user, or need what only the other tests set up.
LEFT_OUT = {"numpy", "host's loopback", "read environment"}


def python_for(uid: int) -> str:
    """Returns a Python that a user can run; the one of the tests may be in root's home."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        check = "import sys; assert sys.version_info >= (3, 11)"
        try:
            if subprocess.run([candidate, "-c", check], capture_output=True, user=uid, group=uid).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip("no Python 3.11 that an ordinary user can run")


def test_an_ordinary_user_is_as_safe(tmp_path: Path):
    as_user: dict = {}
    python, uid = sys.executable, os.getuid()
    if uid == 0:
        python, uid = python_for(NOBODY), NOBODY
        as_user = {"user": uid, "group": uid, "extra_groups": []}
    paths = [ROOT, Path(psutil.__file__).parents[1], Path(tqdm.__file__).parents[1]]
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    facts = {"secret": str(secret), "folder": str(tmp_path), "port": 1}
    programs = {name: harmless(name, **facts) for name in HARMLESS if name not in LEFT_OUT}
    programs |= FAILING | {name: ENDLESS[name] for name in ("loop", "fork bomb")} | {"daemon": DAEMON}
    done = subprocess.run(
        [python, "-c", RUN],
        input=json.dumps(list(programs.values())),
        env={"PYTHONPATH": os.pathsep.join(map(str, paths)), "PATH": os.environ["PATH"], "API_TOKEN": "hunter2"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        **as_user,
    )
    if "skip: " in done.stderr or "ModuleNotFoundError: No module named 'peft_eval'" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["uid"] == uid
    outcomes = dict(zip(programs, found["outcomes"], strict=True))
    expected = {name: name in HARMLESS or name == "daemon" for name in programs}
    assert {name: outcome["passed"] for name, outcome in outcomes.items()} == expected, outcomes
    assert not [p for p in psutil.process_iter(["cmdline"]) if "/runner.py" in (p.info["cmdline"] or [])]
