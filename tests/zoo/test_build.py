"""The shipped zoo: whole, small, with a card for each, and made again by its script to the same losses and scores."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from peft_eval.checkpoint.manifest import Manifest
from peft_eval.checkpoint.zoo_index import find_in
from peft_eval.resources import zoo_folder
from peft_eval.zoo.card import train_command
from peft_eval.zoo.folder_zoo import FolderZoo
from peft_eval.zoo.scores import read_scores
from peft_eval.zoo.verifying import asked_again, check_files

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_zoo.py"
SHIPPED = FolderZoo(zoo_folder(), flat=True)
NAMES = sorted(SHIPPED.index().entries)
TRAINED = [name for name in NAMES if name != "base"]
QUESTIONS = 24


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """The script."""
    if not SCRIPT.is_file():
        pytest.skip("an installed wheel has no scripts/")
    spec = importlib.util.spec_from_file_location("build_zoo", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def folder_of(name: str) -> Path:
    return find_in([zoo_folder()], name).folder


def smallest(names: list[str]) -> str:
    return min(names, key=lambda name: sum(path.stat().st_size for path in folder_of(name).iterdir()))


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_as_listed(name: str) -> None:
    place = SHIPPED.place(name)
    assert place is not None
    check_files(place)
    assert place.folder == zoo_folder() / name


def test_it_is_small_and_nothing_else_lies_in_it(build: ModuleType) -> None:
    files = [path for path in zoo_folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= build.LIMIT_BYTES
    below = {path.relative_to(zoo_folder()).parts[0] for path in files}
    assert below <= {*NAMES, "index.json", ".gitkeep", ".locks"}


def test_the_index_holds_what_the_script_makes(build: ModuleType) -> None:
    assert set(TRAINED) <= set(build.TRAINED)


@pytest.mark.parametrize("name", TRAINED)
def test_a_card_has_the_command_that_made_it_and_the_scores(build: ModuleType, name: str) -> None:
    folder = folder_of(name)
    manifest, scores = Manifest.read(folder), read_scores(folder)
    assert manifest.training is not None
    command = train_command(name, manifest)
    assert command is not None
    ours, theirs = (options_of(text) for text in (command, build.train_command(name, Path("runs") / name)))
    assert set(theirs) <= set(ours)  # which has what followed from them too, as the room for a prompt
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert command in card and "## Unknown" not in card
    assert scores is not None
    assert "model-index" in card
    assert set(scores.suites) == {"mini_unseen", "mini_memorization"}
    assert scores.counts == {"mini_unseen": 550, "mini_memorization": 520}
    for found in scores.suites.values():
        assert all(f"{one.value:.2f} | ± {one.half_width:.2f}" in card for one in found.values() if one.half_width)


def options_of(command: str) -> Iterator[tuple[str, float | str]]:
    """Yields a command's options with their values, numbers as numbers."""
    words = shlex.split(command)
    assert words[:2] == ["peft-eval", "train"]
    for option, value in zip(words[2::2], words[3::2], strict=True):
        try:
            yield option, float(value)
        except ValueError:
            yield option, value


def test_made_again_it_scores_the_same(build: ModuleType, tmp_path: Path) -> None:
    """The smallest one, trained by its own settings from the first step to the last."""
    import torch

    from peft_eval.training.resolve import resolve
    from peft_eval.training.run import train

    place = SHIPPED.place(smallest(TRAINED))
    assert place is not None
    told, kept = read_scores(place.folder), Manifest.read(place.folder).training
    assert told is not None and kept is not None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        spec = {**kept.spec, "output": str(tmp_path / "again")}
        again = train(resolve({key: (value, key) for key, value in spec.items() if value is not None}))
    finally:
        torch.set_num_threads(threads)
    made = Manifest.read(again).training
    assert made is not None and made.steps == kept.steps
    assert [loss for _, loss in made.losses] == pytest.approx([loss for _, loss in kept.losses], rel=1e-2)
    same, differing = asked_again(replace(place, folder=again), told, QUESTIONS, seed=1)
    assert same >= 0.9 * QUESTIONS, differing
