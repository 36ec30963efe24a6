"""The lock of the CPU environment: all that pyproject.toml asks for, at versions that fit, each file by its hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements" / "cpu.lock").read_text(encoding="utf-8")
LOCKED = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK, re.M))


def asked_for() -> list[Requirement]:
    """Returns the package's requirements, with those of the extras `cpu` and `dev` and what these bring along."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found, waiting = [], [*project["dependencies"], "peft-eval[cpu,dev]"]
    while waiting:
        one = Requirement(waiting.pop())
        if one.name == "peft-eval":
            waiting += [line for extra in one.extras for line in project["optional-dependencies"][extra]]
        else:
            found.append(one)
    return found


@pytest.mark.parametrize("requirement", asked_for(), ids=str)
def test_the_lock_fits_the_project(requirement: Requirement) -> None:
    version = LOCKED.get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name}: run scripts/lock_environment.py"
    assert requirement.specifier.contains(version, prereleases=True), f"{requirement} against {version}"


def test_every_package_has_hashes_and_no_address() -> None:
    entries = re.split(r"^(?=[\w.-]+==)", LOCK, flags=re.M)[1:]
    assert len(entries) == len(LOCKED) > 100
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+\n", entry), entry
    assert "://" not in LOCK


def test_companions_of_torch_that_break_it_are_left_out() -> None:
    assert not {"torchvision", "torchaudio", "torchcodec"} & LOCKED.keys()


def test_every_locked_package_has_its_licence_told() -> None:
    told = re.findall(r"^\| \**([\w.-]+?)\** \| (\S+) \| ([^|]+) \|", (ROOT / "docs" / "licences.md").read_text(), re.M)
    assert {name: version for name, version, _ in told}.items() >= LOCKED.items()
    assert all(licence.strip() not in ("", "not installed here") for _, _, licence in told)
