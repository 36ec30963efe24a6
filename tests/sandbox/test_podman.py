"""Attacks on the host, and on the verdict, in real containers of Podman's."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_eval.errors import SandboxError
from peft_eval.sandbox import Limits, Outcome, choose_backend, run_programs
from peft_eval.sandbox.backend import Backend
from tests.sandbox.attacks import DAEMON, ENDLESS, FAILING, HARMLESS, outcomes_of
from tests.sandbox.podman import IMAGE, podman, write_image, write_settings

# A container has a /proc and a file system of its own, and Podman's filter of system calls is not ours.
_OTHERWISE = {
    "read shadow": "the image's /etc/passwd can be read",
    "read environment": "the engine adds PATH, TERM, HOSTNAME and container",
    "see processes": "/proc shows the container's own",
    "new user namespace": "Podman permits them",
    "trace the init": "the container's init belongs to the same user",
    "memory that is nobody's": "counted by the engine",
    "numpy": "not in this image",
}
_DENIED = [name for name in HARMLESS if name not in _OTHERWISE]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Podman with an image of this Python."""
    if shutil.which("podman") is None:
        pytest.skip("no podman on PATH")
    folder = tmp_path_factory.mktemp("podman")
    with pytest.MonkeyPatch.context() as patch:
        write_settings(folder / "containers.conf")
        patch.setenv("CONTAINERS_CONF", str(folder / "containers.conf"))
        try:
            write_image(folder / "image.tar")
            podman("import", "--quiet", str(folder / "image.tar"), IMAGE)
            yield choose_backend("podman", image=IMAGE)
        except (SandboxError, RuntimeError) as error:
            pytest.skip(f"podman does not start containers here: {error}")
        assert podman("ps", "--all", "--quiet", "--filter", f"ancestor={IMAGE}") == ""
        podman("rmi", "--force", IMAGE)


@pytest.fixture(scope="module")
def outcomes(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What became of the attacks that end by themselves."""
    return outcomes_of(_DENIED, backend, tmp_path_factory.mktemp("host"), "of the host")


@pytest.mark.parametrize("name", _DENIED)
def test_what_a_container_denies(outcomes: dict[str, Outcome], name: str):
    assert outcomes[name].passed, outcomes[name]


@pytest.mark.parametrize("name", FAILING)
def test_no_attack_on_the_verdict_passes(outcomes: dict[str, Outcome], name: str):
    assert not outcomes[name].passed and not outcomes[name].timed_out, outcomes[name]


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_programs_are_ended(backend: Backend, name: str):
    begun = time.monotonic()
    outcome = run_programs([ENDLESS[name]], limits=Limits(seconds=1.0), backend=backend)[0]
    assert not outcome.passed and outcome.timed_out, outcome
    assert (
        time.monotonic() - begun < 25
    )  # 1.4 s on an idle machine; an engine that waits for our ends of pipes needs 30


def test_a_daemon_does_not_outlive_its_container(backend: Backend):
    run_programs([DAEMON], limits=Limits(seconds=1.0), backend=backend)
    assert podman("ps", "--quiet") == ""


def test_the_host_is_not_in_the_image(backend: Backend, tmp_path: Path):
    program = f"import os\nassert not os.path.exists({str(tmp_path)!r}) and not os.path.exists('/bin/sh')"
    outcome = run_programs([program], limits=Limits(seconds=5.0), backend=backend)[0]
    assert outcome.passed, outcome
