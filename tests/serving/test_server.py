"""A server ends with its parent, however that ends; a real `vllm serve` judges end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from peft_eval.errors import ConfigError, RouteError
from peft_eval.serving import server
from tests.tiny import tiny_llama

# A server with a child, which both ignore SIGTERM if told so; it writes their process ids.
STUB = """
import http.server, os, signal, subprocess, sys, time
out, stubborn, port = sys.argv[1], sys.argv[2] == "stubborn", int(sys.argv[sys.argv.index("--port") + 1])
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(
    [sys.executable, "-c", "import signal, time; "
     + ("signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else "") + "time.sleep(600)"])
open(out, "w").write(f"{os.getpid()} {child.pid} {os.environ['VLLM_API_KEY']}")
class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
http.server.HTTPServer(("127.0.0.1", port), Healthy).serve_forever()
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Puts the stub where vLLM would be; returns the file with its process ids."""
    script, pids = tmp_path / "stub.py", tmp_path / "pids"
    script.write_text(STUB)
    monkeypatch.setenv("STUB", json.dumps([sys.executable, str(script), str(pids)]))

    def command(model: str, given: list[str]) -> list[str]:
        return [sys.executable, "-m", "peft_eval.serving.supervisor", *json.loads(os.environ["STUB"]), model]

    monkeypatch.setattr(server, "_command", command)
    return pids


def lives(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ids(pids: Path) -> list[int]:
    return [int(word) for word in pids.read_text().split()[:2]]


def gone(pids: Path, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while any(map(lives, ids(pids))) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(lives, ids(pids)))


def test_it_runs_while_the_block_does(stub: Path, tmp_path: Path) -> None:
    with server.serve("gentle", tmp_path / "logs" / "log") as running:
        assert httpx.get(running.url.replace("/v1", "/health")).status_code == 200
        assert stub.read_text().split()[2] == running.key and running.key not in repr(running)
        assert all(map(lives, ids(stub)))
    assert gone(stub)


def test_an_error_and_a_stubborn_server(stub: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("peft_eval.serving.supervisor.GRACE_SECONDS", 1)  # of this process; the stub's has ten
    with pytest.raises(KeyboardInterrupt), server.serve("stubborn", tmp_path / "log"):
        raise KeyboardInterrupt
    assert gone(stub)


def test_it_ends_when_its_parent_is_killed(stub: Path, tmp_path: Path) -> None:
    parent = f"""
import json, os, sys, time
from pathlib import Path
from peft_eval.serving import server
server._command = lambda model, given: [sys.executable, "-m", "peft_eval.serving.supervisor",
    *json.loads(os.environ["STUB"]), model]
with server.serve("gentle", Path({str(tmp_path / "log")!r})):
    print("ready", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    assert all(map(lives, ids(stub)))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert gone(stub)


def test_a_server_that_does_not_start(tmp_path: Path, monkeypatch) -> None:
    def fails(model: str, given: list[str]) -> list[str]:
        program = "print('loading'); raise ValueError('no such architecture')"
        return [sys.executable, "-m", "peft_eval.serving.supervisor", sys.executable, "-c", program]

    monkeypatch.setattr(server, "_command", fails)
    log = tmp_path / "log"
    with pytest.raises(RouteError, match=rf"model: vllm serve ended: .*no such architecture.*see {log}"):  # noqa: SIM117
        with server.serve("model", log):
            pass
    monkeypatch.setattr(server, "_command", lambda model, given: [sys.executable, "-c", "import time; time.sleep(99)"])
    with pytest.raises(RouteError, match="not ready after 1 s"), server.serve("model", log, start_seconds=1):
        pass


def test_what_is_ours_to_set(tmp_path: Path) -> None:
    for arguments in ("--port 8000", "--api-key=x", "--dtype float32 --host 0.0.0.0"):
        with pytest.raises(ConfigError, match="is set by peft-eval"), server.serve("m", tmp_path / "log", arguments):
            pass


def test_what_is_left_of_a_gpu() -> None:
    assert server.free_share(40 << 30, 80 << 30) == 0.47
    assert server.free_share(80 << 30, 80 << 30) == 0.9
    with pytest.raises(RouteError, match=r"only 2048 of 81920 MiB.*saved-answers"):
        server.free_share(2 << 30, 80 << 30)


@pytest.mark.vllm
def test_a_real_server_judges(tmp_path: Path, tasks_root: Path, monkeypatch) -> None:
    """A random model cannot rank, so every answer is without a verdict: counted, cached, and not asked for again."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    pytest.importorskip("alpaca_eval", reason="the extra alpaca is not installed")
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from peft_eval.harness.saved_answers import SavedAnswers

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    judge = tiny_llama(tmp_path / "judge", context=2048)
    config = json.loads((judge / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    (judge / "tokenizer_config.json").write_text(json.dumps(config))
    rows = [{"instruction": f"question {n}", "output": f"reference {n}"} for n in range(5)]
    (tmp_path / "alpaca_eval.json").write_text(json.dumps(rows))
    (tmp_path / "answers.json").write_text(json.dumps([row | {"output": "answer"} for row in rows]))
    metadata = {
        "alpaca_eval": str(tmp_path),
        "judge_model": str(judge),
        "judge_args": "--dtype float32 --enforce-eager --max-model-len 2048",
    }

    def run() -> dict:
        manager = TaskManager(include_path=str(tasks_root), include_defaults=False, metadata=metadata)
        model = SavedAnswers(path=str(tmp_path / "answers.json"))
        return simple_evaluate(model, tasks=["tulu_alpaca_eval"], task_manager=manager)["results"]["tulu_alpaca_eval"]

    found = run()
    assert found["unparsed,none"] == 1.0 and "win_rate,none" not in found
    [log] = (tmp_path / "cache").rglob("vllm-serve-*.log")
    assert log.read_text().count("POST /v1/chat/completions") == 5
    assert not [process for process in _commands() if str(judge) in process]
    log.unlink()
    assert run()["unparsed,none"] == 1.0
    assert not log.exists()  # all is cached: no server was started


def _commands() -> list[str]:
    files = [path / "cmdline" for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [file.read_bytes().replace(b"\0", b" ").decode() for file in files if file.exists()]
