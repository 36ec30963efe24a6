"""Tasks that do not depend on the checkpoint are loaded and rendered once; results stay those of separate runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from peft_eval.harness.extensions import extend_all
from peft_eval.harness.session import Session, session
from peft_eval.harness.tasks_once import TasksOnce, depends_on_checkpoint
from tests.harness.test_evaluation import suite
from tests.tiny import tiny_tokenizer

TITLES = "task1356_xlsum_title_generation"


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts what lm-eval loads and renders."""
    extend_all()
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager

    counted = {"loaded": 0, "rendered": 0}
    load, render = TaskManager.load, ConfigurableTask.fewshot_context

    def counting_load(self: Any, names: Any) -> Any:
        counted["loaded"] += 1
        return load(self, names)

    def counting_render(self: Any, *args: Any, **options: Any) -> Any:
        counted["rendered"] += 1
        return render(self, *args, **options)

    monkeypatch.setattr(TaskManager, "load", counting_load)
    monkeypatch.setattr(ConfigurableTask, "fewshot_context", counting_render)
    return counted


def run(superni: Path, tokenizer: Path, **options: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    metadata = {"superni": str(superni), "superni_partial": True, "tokenizer": str(tokenizer)}
    found = simple_evaluate(
        model="copy-input", tasks=["superni_unseen_def_title_generation"],
        task_manager=suite("superni", metadata), metadata=metadata, bootstrap_iters=0, **options,
    )  # fmt: skip
    assert found is not None
    return found


def test_a_second_checkpoint_finds_the_tasks_and_prompts(tiny_superni: Any, tmp_path: Path, count: Any) -> None:
    tiny_superni.add(TITLES, instances=5)
    folders = [tmp_path / name for name in ("one", "same", "other")]
    for folder, vocabulary in zip(folders, (384, 384, 300), strict=True):
        tiny_tokenizer(folder, vocab=vocabulary)
    alone = run(tiny_superni.folder, folders[0])
    count.update(loaded=0, rendered=0)
    with session(Session(tasks=TasksOnce())):
        first = run(tiny_superni.folder, folders[0])
        assert (count["loaded"], count["rendered"]) == (1, 5)
        second = run(tiny_superni.folder, folders[1])
        assert (count["loaded"], count["rendered"]) == (1, 5)
        assert first["results"] == second["results"] == alone["results"]
        assert first["samples"] == second["samples"] == alone["samples"]
        run(tiny_superni.folder, folders[0], limit=2)
        assert (count["loaded"], count["rendered"]) == (1, 7)
        run(tiny_superni.folder, folders[2])
        assert count["loaded"] == 2
    run(tiny_superni.folder, folders[0])
    assert count["loaded"] == 3


def test_what_may_depend_on_the_checkpoint_is_told() -> None:
    def task(custom: Any = None, **attributes: Any) -> Any:
        return SimpleNamespace(config=SimpleNamespace(custom_dataset=custom), **attributes)

    assert not depends_on_checkpoint(task())
    assert depends_on_checkpoint(task(of_the_checkpoint=True))
    assert depends_on_checkpoint(task(lambda **metadata: metadata))


def test_the_memorization_suite_is_the_checkpoints_own() -> None:
    from peft_eval.resources import tasks_folder

    text = (tasks_folder() / "memorization" / "suite.py").read_text(encoding="utf-8")
    assert "of_the_checkpoint = True" in text
