"""Containers: the same runner in one fresh container a program, by Docker's or Podman's own command.

Slower to start than bubblewrap (most of a second), but there where only a container engine is.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess

from peft_eval.errors import SandboxError
from peft_eval.sandbox.backend import PYTHON_OPTIONS, RUNNER, Running, start_process
from peft_eval.sandbox.program import Limits

DEFAULT_IMAGE = "python:3.11-slim"
ENGINES = ("podman", "docker")
_NOBODY = "65534:65534"


class Container:
    """Programs in containers.

    Args:
        engine: `docker` or `podman`.
        image: an image with `python3` on its PATH; programs can import what is in it.

    Raises:
        SandboxError: there is no such command.
    """

    isolated = True
    start_seconds = 300.0  # the first start may have to fetch the image
    limits_processes = False  # the engine does, and the runner's limit would count the host's processes of the user

    def __init__(self, engine: str, image: str = DEFAULT_IMAGE):
        executable = shutil.which(engine)
        if executable is None:
            raise SandboxError(f"no `{engine}` on PATH", place=engine, remedy=f"install {engine}")
        self.name = engine
        self.image = image
        self._executable = executable
        said = subprocess.run([executable, "--version"], capture_output=True, text=True).stdout.strip()
        self.description = f"{said}, image {image}"

    def command(self, limits: Limits, name: str) -> list[str]:
        """Returns the command line that starts a runner in a container of that name."""
        memory = str(limits.memory_bytes)
        command = [self._executable, "run", "--rm", "--interactive", "--init", "--name", name]
        command += ["--network", "none", "--ipc", "none", "--read-only", "--workdir", "/tmp"]
        command += ["--tmpfs", f"/tmp:rw,nosuid,nodev,noexec,size={limits.disk_bytes}"]
        command += ["--memory", memory, "--memory-swap", memory, "--cpus", "1"]
        command += ["--pids-limit", str(limits.processes + 2)]  # the engine's init and the runner
        command += ["--user", _NOBODY, "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        command += ["--log-driver", "none", "--env", "HOME=/tmp", "--env", "OPENBLAS_NUM_THREADS=1"]
        command += ["--entrypoint", "python3", self.image]
        return [*command, *PYTHON_OPTIONS, "-c", RUNNER.read_text(encoding="utf-8")]

    def start(self, limits: Limits) -> Running:
        """Starts a runner."""
        name = f"peft-eval-{secrets.token_hex(8)}"
        # The engine's own command may need its environment (DOCKER_HOST, HOME); the container gets none of it.
        process = start_process(self.command(limits, name), environment=dict(os.environ))
        return _OneContainer(process, self._executable, name)


class _OneContainer(Running):
    def __init__(self, process: subprocess.Popen[bytes], executable: str, name: str):
        self.process = process
        self._executable = executable
        self._name = name

    def end(self) -> None:
        """Kills the container; the command that started it then ends by itself."""
        runs = self.process.poll() is None
        self.close_pipes()  # else the engine waits for a reader of what was printed
        if runs:
            subprocess.run([self._executable, "kill", self._name], capture_output=True)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            subprocess.run([self._executable, "rm", "--force", self._name], capture_output=True)
