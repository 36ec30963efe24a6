"""`--data superni`: which tasks and instances become examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from peft_eval.data.location import data_folder
from peft_eval.data.source import Selection
from peft_eval.data.superni.source import SuperNISource, examples_sha256
from peft_eval.errors import ConfigError, DataError, ManyErrors

NAMES = [f"task{number}_made" for number in range(1, 9)]


@pytest.fixture
def folder(tiny_superni) -> Path:
    for name in NAMES:
        tiny_superni.add(name, "Word Games", instances=5)
    tiny_superni.split("train", [*reversed(NAMES), "task90_absent", "task91_absent"])
    return tiny_superni.folder


def load(folder: Path, **selection):
    return SuperNISource().load(str(folder), Selection(**selection))


def test_all_present_tasks_with_a_note_on_the_absent(folder: Path) -> None:
    data = load(folder)
    assert sorted({example.task for example in data.examples}) == NAMES
    assert len(data.examples) == 8 * 5
    assert data.source == f"superni:{folder}"
    assert data.notes == [
        "2 of the 10 training tasks have no file and were not used",
        "8 of 8 tasks have fewer than 100 instances",
    ]


def test_an_example_is_prompt_and_one_reference(folder: Path) -> None:
    example = load(folder, encoding="def").examples[1]
    assert example.source == (
        "Definition: Give the text a title.\n\nNow complete the following example -\nInput: story number 1.\nOutput: "
    )
    assert (example.task, example.category, example.instance_id) == ("task1_made", "Word Games", "id-1")
    assert example.target in ("title 1", "1 title")


def test_references_are_drawn_by_seed_and_instance(tiny_superni) -> None:
    tiny_superni.add("task1_made", instances=100)
    tiny_superni.split("train", ["task1_made"])
    first, again, other = (load(tiny_superni.folder, seed=seed) for seed in (1, 1, 2))
    assert first.content_sha256 == again.content_sha256 == examples_sha256(first.examples)
    assert first.content_sha256 != other.content_sha256
    numbered = sum(example.target.startswith("title") for example in first.examples)
    assert 25 < numbered < 75
    few = load(tiny_superni.folder, seed=1, instances_per_task=10)
    assert few.examples == first.examples[:10]


def test_tasks_are_drawn_by_seed_and_smaller_draws_lie_within_larger(folder: Path) -> None:
    def drawn(count: int, seed: int) -> set[str]:
        return {example.task for example in load(folder, tasks=count, seed=seed).examples}

    assert drawn(3, 1) < drawn(5, 1)
    assert len(drawn(5, 1)) == 5
    assert len({frozenset(drawn(3, seed)) for seed in range(10)}) > 1


@pytest.mark.parametrize("tasks", [0, 9])
def test_more_tasks_than_there_are(folder: Path, tasks: int) -> None:
    with pytest.raises(ConfigError, match=r"ask for 1 to 8"):
        load(folder, tasks=tasks)


def test_wrong_selections(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean def_pos2"):
        load(folder, encoding="defpos2")
    with pytest.raises(ConfigError, match="instances_per_task"):
        load(folder, instances_per_task=0)


def test_broken_training_files_are_reported_together(folder: Path) -> None:
    for name in NAMES[:2]:
        (folder / "tasks" / f"{name}.json").write_text("{")
    with pytest.raises(ManyErrors, match=r"task1_made\.json: not valid JSON[^\n]*\n.*task2_made\.json"):
        load(folder)


def test_no_training_file_at_all(tiny_superni) -> None:
    tiny_superni.split("train", ["task90_absent"])
    with pytest.raises(DataError, match="none of the 1 training tasks has a file"):
        load(tiny_superni.folder)


def test_a_training_list_with_test_tasks_is_refused(tiny_superni) -> None:
    tiny_superni.split("train", ["task1_made", "task1356_xlsum_title_generation"])
    with pytest.raises(DataError, match=r"1 of the official test tasks, e\.g\. task1356"):
        load(tiny_superni.folder)


def test_folder_given_else_environment_else_cache(tiny_superni, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("peft_eval.data.location.user_cache_path", lambda name: tmp_path / "cache")
    with pytest.raises(DataError, match="peft-eval data get superni"):
        data_folder("superni")
    (tmp_path / "cache" / "superni" / "tasks").mkdir(parents=True)
    assert data_folder("superni") == tmp_path / "cache" / "superni"
    monkeypatch.setenv("PEFT_EVAL_SUPERNI", str(tiny_superni.folder))
    assert data_folder("superni") == tiny_superni.folder
    with pytest.raises(DataError, match="as given"):
        data_folder("superni", str(tmp_path / "nowhere"))


def test_real_training_tasks(shared_data: Path) -> None:
    data = load(shared_data / "superni", tasks=64, encoding="def_pos2")
    assert len({example.task for example in data.examples}) == 64
    assert all(example.source.endswith("\nOutput: ") and example.target for example in data.examples)
    assert data.notes[0] == "578 of the 756 training tasks have no file and were not used"
