"""Tokens and keys of the environment, and those in an address, are in nothing that is written or said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.faults.secret_roads import IN_THE_ADDRESS, SECRETS

ROOT = Path(__file__).parents[2]


def test_secrets_are_written_and_said_nowhere(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.faults.secret_roads", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ends = {path.stem: path.read_text().splitlines()[0] for path in tmp_path.glob("*.said")}
    through = ("merge", "eval", "zoo add", "study run", "report", "get")
    assert ends == dict.fromkeys(through, "0") | {"refused": "2", "nothing": "2"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"peft_eval.json", "fetched.json", "index.json", "report.html"} <= {path.name for path in written}
    assert any(path.name.startswith("results_") for path in written)
    for secret in (*SECRETS.values(), IN_THE_ADDRESS):
        assert secret.encode() not in done.stdout + done.stderr
        holders = [str(path) for path in written if secret.encode() in path.read_bytes()]
        assert holders == [], f"{secret} is in {holders}"
