"""lm-eval's own folder of tasks, nine seconds to read, is read only by runs that ask for something in it."""

import pytest
from lm_eval.tasks import TaskManager

from peft_eval.harness.found_once import found_once


@pytest.mark.parametrize("tasks", [["mini_unseen", "mini_retention"], ["tulu_tydiqa_gp::finnish"]])
def test_our_tasks_need_our_folders_alone(tasks):
    with found_once(tasks):
        found = TaskManager().all_tasks
    assert {"mini_unseen", "tulu"} <= set(found) and "gsm8k" not in found


def test_a_task_of_theirs_needs_their_folder_and_so_does_a_group_that_names_one(tmp_path):
    (tmp_path / "group.yaml").write_text("group: ours\ntask:\n  - mini_unseen\n  - gsm8k\n")
    with found_once(["ours"]):
        assert "gsm8k" in TaskManager(include_path=str(tmp_path)).all_tasks
