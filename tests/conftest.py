"""What tests of several rooms need: real data where it is at hand, and a tiny SuperNI folder where it is not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from peft_eval.data.location import LAYOUTS, environment_variable

_ROOT = Path(__file__).parent.parent


def _shared(part: str) -> Path:
    folder = Path(os.environ.get("PEFT_EVAL_TEST_DATA") or _ROOT.parent / "shared") / part
    if not folder.is_dir():
        pytest.skip(f"no real {part} here: set PEFT_EVAL_TEST_DATA to the folder that has {part}/")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data files (superni/, rouge_testdata/, ...)."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_bases() -> Path:
    """The folder of real small base models."""
    return _shared("bases")


@pytest.fixture(scope="session")
def tasks_root() -> Path:
    """The folder of lm-eval task YAMLs."""
    return _ROOT / "tasks"


@pytest.fixture(autouse=True)
def no_data_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the environment of whoever runs the tests out of them."""
    for name in LAYOUTS:
        monkeypatch.delenv(environment_variable(name), raising=False)


class TinySuperNI:
    """A folder in the official layout, filled task by task."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "tasks").mkdir(parents=True)

    @staticmethod
    def content(category: str = "Title Generation", instances: int = 4, **changes: Any) -> dict[str, Any]:
        """A task file's content; `changes` replaces or, where None, removes fields."""
        fields: dict[str, Any] = {
            "Contributors": ["A. Person"],
            "Categories": [category],
            "Definition": ["Give the text a title"],
            "Positive Examples": [
                {"input": "A dog barks", "output": "Dog", "explanation": "It is short"},
                {"input": "Rain falls.", "output": "Rain!", "explanation": "It is true."},
                {"input": "third", "output": "never used", "explanation": ""},
            ],
            "Negative Examples": [{"input": "Snow", "output": "Fire", "explanation": "It is wrong"}],
            "Instances": [
                {
                    "id": f"id-{index}",
                    "input": f" story number {index} ",
                    "output": [f"title {index}", f"{index} title"],
                }
                for index in range(instances)
            ],
            "Instance License": ["Apache 2.0"],
            **changes,
        }
        return {field: value for field, value in fields.items() if value is not None}

    def add(self, name: str, category: str = "Title Generation", instances: int = 4, **changes: Any) -> Path:
        """Writes a task file."""
        path = self.folder / "tasks" / f"{name}.json"
        path.write_text(json.dumps(self.content(category, instances, **changes), indent=4), encoding="utf-8")
        return path

    def split(self, part: str, names: list[str], track: str = "default") -> Path:
        """Writes a split list."""
        path = self.folder / "splits" / track / f"{part}_tasks.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        return path


@pytest.fixture
def tiny_superni(tmp_path: Path) -> TinySuperNI:
    """An empty SuperNI folder to fill."""
    return TinySuperNI(tmp_path / "superni")
