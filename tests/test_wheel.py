"""What a wheel carries, and what an editable install reads in place instead."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
AUTOLOAD = {"peft_eval_autoload.pth", "peft_eval_autoload.py"}


def built(how: str, folder: Path) -> set[str]:
    """Returns the names in a wheel, built by the project's own backend without isolation (and so offline)."""
    program = f"import sys; from hatchling.build import {how}; print({how}(sys.argv[1]))"
    ran = subprocess.run(
        [sys.executable, "-c", program, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(zipfile.ZipFile(folder / ran.stdout.split()[-1]).namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return built("build_wheel", tmp_path_factory.mktemp("wheel"))


def files(folder: str) -> set[str]:
    """Returns the files in a folder of the checkout, by their paths below it."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT / folder)) for path in found if path.name != ".gitkeep"}


@pytest.mark.parametrize(
    ("folder", "inside"),
    [("peft_eval", "peft_eval"), ("tasks", "peft_eval/_tasks"), ("adapters_zoo", "peft_eval/_zoo")],
)
def test_a_wheel_carries_every_module_task_and_the_base(wheel: set[str], folder: str, inside: str):
    expected = {f"{inside}/{name}" for name in files(folder)}
    assert expected and expected <= wheel


def test_the_base_and_the_mini_suites_are_there(wheel: set[str]):
    assert any(name.startswith("peft_eval/_tasks/mini/") for name in wheel)
    assert "peft_eval/_zoo/base/model.safetensors" in wheel


def test_a_wheel_carries_the_import_hook_and_the_licence(wheel: set[str]):
    assert wheel >= AUTOLOAD
    assert any(name.endswith("/LICENSE") for name in wheel)


def test_a_wheel_carries_no_caches_and_no_tests(wheel: set[str]):
    assert not [name for name in wheel if "__pycache__" in name or name.startswith("tests")]


def test_an_editable_install_copies_the_hook_but_no_tasks(tmp_path: Path):
    names = built("build_editable", tmp_path)
    assert names >= AUTOLOAD
    assert not [name for name in names if "_tasks" in name or "_zoo" in name]
