"""What a sandbox is shown, as root and as an ordinary user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peft_eval.errors import SandboxError
from peft_eval.sandbox import bubblewrap
from peft_eval.sandbox.bubblewrap import Bubblewrap
from peft_eval.sandbox.interpreter import Interpreter, inspect_interpreter
from peft_eval.sandbox.program import Limits

SMALL = Interpreter(Path("/home/me/py/bin/python"), (Path("/home/me/py/lib"), Path("/lib64")), (Path("/v/numpy"),))


def words(command: list[str], option: str, count: int) -> list[tuple[str, ...]]:
    """Returns the arguments of an option, each time that it is given."""
    return [tuple(command[at + 1 : at + 1 + count]) for at, word in enumerate(command) if word == option]


@pytest.fixture(params=["root", "user"])
def command(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: "/bin/true")
    monkeypatch.setattr(bubblewrap, "_is_the_hosts_root", lambda: request.param == "root")
    return request.param, Bubblewrap(SMALL).command(Limits(disk_bytes=77), info=5, filter_of_calls=6)


def test_only_the_interpreter_is_shown(command: tuple[str, list[str]]):
    _, line = command
    assert {source for source, _ in words(line, "--ro-bind", 2)} == {
        "/home/me/py/bin/python", "/home/me/py/lib", "/lib64", "/v/numpy", str(bubblewrap.RUNNER),
    }  # fmt: skip
    assert ("/v/numpy", "/packages/numpy") in words(line, "--ro-bind", 2)
    assert not {"--bind", "--dev-bind", "--share-net", "--proc", "--unshare-all"} & set(line)
    assert words(line, "--size", 1) == [("77",)] and words(line, "--tmpfs", 1) == [("/tmp",)]
    assert words(line, "--remount-ro", 1) == [("/dev",), ("/",)]
    assert ("/home/me",) in words(line, "--dir", 1)
    assert {"--clearenv", "--die-with-parent", "--new-session", "--unshare-net", "--unshare-pid"} <= set(line)
    assert words(line, "--seccomp", 1) == [("6",)] and words(line, "--cap-drop", 1) == [("ALL",)]


def test_root_becomes_a_user_inside_and_a_user_nobody(command: tuple[str, list[str]]):
    who, line = command
    assert ("--unshare-user" in line) == (who == "user")
    assert words(line, "--cap-add", 1) == ([("CAP_SETUID",), ("CAP_SETGID",)] if who == "root" else [])


def test_the_root_of_a_rootless_container_counts_as_a_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for line, expected in (
        ("0 0 4294967295\n", True),
        ("0 100000 65536\n", False),
        ("0 1000 1\n1 100000 65536", False),
    ):
        monkeypatch.setattr(Path, "read_text", lambda self, line=line: line)
        assert bubblewrap._is_the_hosts_root() is expected


def test_this_python_is_described():
    found = inspect_interpreter(None, ("numpy", "no_such_package"))
    assert found.binary.is_file() and not found.binary.is_symlink()
    library = next(path for path in found.readable if (path / "os.py").is_file())
    assert "site-packages" not in str(library)
    assert "numpy" in {path.name for path in found.packages}
    assert not {"/", "/usr", "/etc", "/root", "/home", str(Path.home())} & {str(path) for path in found.readable}


def test_a_python_that_does_not_run(tmp_path: Path):
    with pytest.raises(SandboxError, match="does not run"):
        inspect_interpreter(str(tmp_path / "python"))
