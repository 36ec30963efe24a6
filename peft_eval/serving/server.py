"""vLLM's own OpenAI-compatible server on loopback, for as long as a block of code runs."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from peft_eval.errors import ConfigError, RouteError
from peft_eval.serving.engine import cpu_defaults

START_SECONDS = 1200
_LOOK_EVERY_SECONDS = 0.5
_STOP_SECONDS = 30
# Of a GPU's memory, for what vLLM's own count leaves out (CUDA context, graphs).
_GPU_MARGIN = 0.03
_SMALLEST_GPU_SHARE = 0.05
# Set by us: a server elsewhere would be found by nobody.
_OURS = ("--host", "--port", "--api-key", "--served-model-name", "--uds")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes:
        url: base address, with `/v1`.
        model: the name it serves the model under.
        key: what it asks of its clients, so that no one else on the machine uses it.
        log: its output.
    """

    url: str
    model: str
    key: str = field(repr=False)
    log: Path


@contextlib.contextmanager
def serve(model: str, log: Path, arguments: str = "", *, start_seconds: float = START_SECONDS) -> Iterator[Server]:
    """Starts `vllm serve`, waits until it is healthy, and stops it with all its processes at the end.

    It is stopped as well when this process is interrupted or killed (see `supervisor`).

    Args:
        model: folder or hub id.
        log: file for its output.
        arguments: more of `vllm serve`'s options, as on a command line.
        start_seconds: how long loading may take.

    Raises:
        ConfigError: vLLM is not installed, or `arguments` set what is ours to set.
        RouteError: it ends or is not healthy in time; its last words and log are named.
    """
    command, name = _command(model, _split(arguments)), Path(model).name
    port, key = _free_port(), secrets.token_hex(16)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--served-model-name", name],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"VLLM_API_KEY": key},
            start_new_session=True,  # Ctrl-C is ours to handle
        )
    try:
        _wait_until_healthy(process, f"http://127.0.0.1:{port}/health", log, model, start_seconds)
        yield Server(url=f"http://127.0.0.1:{port}/v1", model=name, key=key, log=log)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        process.kill()


def _split(arguments: str) -> list[str]:
    given = shlex.split(arguments)
    ours = [word for word in given if word.split("=")[0].replace("_", "-") in _OURS]
    if ours:
        raise ConfigError(f"{ours[0]} is set by peft-eval", place="judge_args", remedy="leave it out")
    return given


def _command(model: str, given: list[str]) -> list[str]:
    import importlib.util

    if importlib.util.find_spec("vllm") is None:
        raise ConfigError("vLLM is not installed", remedy="install peft-eval[vllm] or peft-eval[cpu]")
    names = {word.split("=")[0].lstrip("-").replace("-", "_") for word in given if word.startswith("--")}
    sizes = _memory(model, {name: True for name in names})
    options = [f"--{name.replace('_', '-')}={value}" for name, value in sizes.items() if name not in names]
    # The console script's own module: the script may not be on the path of whoever runs this Python.
    vllm = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", model]
    return [sys.executable, "-m", "peft_eval.serving.supervisor", *vllm, *options, *given]


def _memory(model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how much memory the server may take where vLLM would take nearly all: another engine may hold some."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return cpu_defaults(model, dict(given))
    if "gpu_memory_utilization" in given or not current_platform.is_cuda():
        return {}
    import torch

    free, total = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": free_share(free, total)}


def free_share(free_bytes: int, total_bytes: int) -> float:
    """Returns the share of a GPU's memory that a second engine may take.

    Raises:
        RouteError: next to nothing is free.
    """
    share = round(free_bytes / total_bytes - _GPU_MARGIN, 3)
    if share < _SMALLEST_GPU_SHARE:
        raise RouteError(
            f"only {free_bytes >> 20} of {total_bytes >> 20} MiB of the GPU's memory are free for the judge",
            remedy="give the evaluated model less (--model_args gpu_memory_utilization=0.4), or judge its saved "
            "answers in a second run (--model saved-answers)",
        )
    return min(share, 0.9)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path, model: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5).status_code == 200:
                return
        if time.monotonic() > until:
            raise RouteError(f"vllm serve is not ready after {seconds:.0f} s", place=model, remedy=f"see {log}")
        time.sleep(_LOOK_EVERY_SECONDS)
    raise RouteError(f"vllm serve ended: {_last_error(log)}", place=model, remedy=f"see {log}")


def _last_error(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line and "Traceback" not in line]
    return (errors or lines or ["it said nothing"])[-1][-300:]
