"""What is chosen, and what is said where nothing can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_eval.errors import ConfigError, SandboxError
from peft_eval.sandbox import choose_backend, run_programs
from peft_eval.sandbox.backend import Backend


def executable(folder: Path, name: str, script: str) -> None:
    """Writes a command into a folder."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_bubblewrap_comes_first(sandbox: Backend):
    assert choose_backend().name == "bubblewrap"
    assert sandbox.isolated and sandbox.description.startswith("bubblewrap ")


def test_without_any_it_is_refused_and_the_remedies_are_named(only: Path):
    with pytest.raises(SandboxError) as caught:
        choose_backend()
    message = str(caught.value)
    for word in ("no `bwrap` on PATH", "no `podman`", "no `docker`", "package `bubblewrap`", "unsafe_code=true"):
        assert word in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "said",
    [
        "bwrap: No permissions to create new namespace, likely because the kernel does not allow non-privileged users",
        "bwrap: Creating new namespace failed: Operation not permitted",
        "bwrap: setting up uid map: Permission denied",
        "bwrap: Failed to make / slave: Permission denied, mount",
    ],
)
def test_bwrap_that_may_not_make_namespaces(only: Path, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("peft_eval.sandbox.exchange.time.sleep", lambda seconds: None)
    executable(only, "bwrap", f"echo '{said}' >&2; exit 1")
    with pytest.raises(SandboxError) as caught:
        choose_backend("bubblewrap")
    message = str(caught.value)
    assert said in message and "--privileged" in message and "kernel.unprivileged_userns_clone=1" in message
    with pytest.raises(SandboxError, match=r"may not make namespaces here.*no `podman`"):
        choose_backend()


def test_a_bwrap_that_fails_otherwise_keeps_its_own_words(only: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("peft_eval.sandbox.exchange.time.sleep", lambda seconds: None)
    executable(only, "bwrap", "echo 'bwrap: Unknown option --size' >&2; exit 1")
    with pytest.raises(SandboxError, match="Unknown option --size") as caught:
        choose_backend("bubblewrap")
    assert "privileged" not in str(caught.value)


def test_no_sandbox_only_for_those_who_insist(only: Path):
    with pytest.raises(SandboxError, match="unsafe_code=true"):
        choose_backend("none")
    for name in ("none", "auto"):
        backend = choose_backend(name, unsafe_code=True)
        assert backend.name == "none" and not backend.isolated and "unsafe_code=true" in backend.description


def test_who_permits_no_sandbox_still_gets_one(sandbox: Backend):
    assert choose_backend(unsafe_code=True).isolated


def test_an_unknown_name(only: Path):
    with pytest.raises(ConfigError, match="did you mean bubblewrap"):
        choose_backend("bublewrap")


def test_bare_programs_have_limits_and_a_verdict():
    backend = choose_backend("none", unsafe_code=True, packages=("numpy",))
    programs = ["import numpy", "import sys\nsys.exit(0)", "bytearray(2**31)", "import os\nassert 'HOME' in os.environ"]
    assert [outcome.passed for outcome in run_programs(programs, backend=backend)] == [True, False, False, True]
