"""Members of groups that make them when they are loaded: found, loaded alone, and near matches for what is unknown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from peft_eval.errors import ConfigError
from peft_eval.harness.extensions import extend_all, extend_command
from tests import tulu_files

PHYSICS = "tulu_mmlu_5shot::stem::physics"


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    extend_all()
    root = tmp_path_factory.mktemp("tulu")
    metadata = {
        "mmlu": str(tulu_files.mmlu(root / "mmlu")),
        "bbh": str(tulu_files.big_bench_hard(root / "bbh")),
    }
    tasks = Path(__file__).parents[2] / "tasks" / "tulu"
    return TaskManager(include_path=str(tasks), include_defaults=False, metadata=metadata)


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("tulu_bbh_cot::navigate", ["tulu_bbh_cot::navigate"]),
        (f"{PHYSICS}::astronomy", [f"{PHYSICS}::astronomy"]),
        (
            PHYSICS,
            [
                f"{PHYSICS}::{subject}"
                for subject in ("astronomy", "college_physics", "conceptual_physics", "high_school_physics")
            ],
        ),
    ],
)
def test_a_member_is_the_one_of_its_group(manager: TaskManager, name: str, tasks: list[str]):
    assert manager.match_tasks([name]) == [name]
    found = manager.load([name])["tasks"]
    assert sorted(found) == tasks
    whole = manager.load([name.split("::")[0]])["tasks"]
    assert found[tasks[0]].dataset["test"].to_list() == whole[tasks[0]].dataset["test"].to_list()
    assert found[tasks[0]].config.generation_kwargs == whole[tasks[0]].config.generation_kwargs
    assert found[tasks[0]].config.metadata["num_fewshot"] == (3 if "bbh" in name else 5)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tulu_bbh_cot::navigat", "unknown member of tulu_bbh_cot 'navigat'.*did you mean navigate"),
        ("tulu_tydiqa_gp::thai", "unknown member of tulu_tydiqa_gp 'thai'.*swahili"),
        ("tulu_mmlu_0shot::astronmy", "unknown member of tulu_mmlu_0shot 'astronmy'.*did you mean astronomy"),
        ("tulu_mmlu_0shot::x", "unknown member of tulu_mmlu_0shot 'x'.*humanities.*social_sciences.*stem"),
        ("tulu_mmlu_0shot::stem::maths", "unknown member of tulu_mmlu_0shot::stem 'maths'.*did you mean math"),
    ],
)
def test_an_unknown_member_has_near_ones(manager: TaskManager, name: str, said: str):
    with pytest.raises(ConfigError, match=said):
        manager.match_tasks([name])


def test_a_subject_needs_no_categories(manager: TaskManager):
    assert manager.match_tasks(["tulu_mmlu_5shot::astronomy"]) == ["tulu_mmlu_5shot::astronomy"]
    assert list(manager.load(["tulu_mmlu_5shot::astronomy"])["tasks"]) == [f"{PHYSICS}::astronomy"]


def test_names_of_others_are_left_to_lm_eval(manager: TaskManager):
    assert manager.match_tasks(["nobodys::task", "tulu_codin?"]) == ["tulu_coding"]
    with pytest.raises(KeyError, match="not a registered task"):
        manager.load(["nobodys::task"])


def unknown_task() -> None:
    raise ValueError("Tasks not found: tulu_mmlu_6shot")


def unknown_model() -> None:
    get_model("copy-demmo")


@pytest.mark.parametrize(
    ("act", "line"),
    [
        (unknown_task, "error: --tasks: Tasks not found: tulu_mmlu_6shot (`peft-eval suites`"),
        (unknown_model, "error: --model: unknown model 'copy-demmo' (did you mean copy-demo"),
    ],
)
def test_the_command_says_in_one_line_what_is_unknown(
    act: Callable[[], None], line: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as caught:
        command(act).execute(None)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(line)


def test_other_errors_of_the_command_are_left_alone():
    with pytest.raises(ValueError, match="invalid literal"):
        command(lambda: int("x")).execute(None)


def command(act: Callable[[], Any]) -> Any:
    """Returns an extended command of lm-eval's that does `act`."""

    class Command:
        def execute(self, args: Any) -> None:
            act()

    extend_command(SimpleNamespace(HarnessCLI=Command))  # type: ignore[arg-type]
    return Command()
