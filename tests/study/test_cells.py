"""From the study file to its cells: what is an axis, what is refused, and what makes two runs the same."""

from pathlib import Path
from typing import Any

import pytest

from peft_eval.cli.study_common import check_suites
from peft_eval.errors import ConfigError, ManyErrors
from peft_eval.study.cells import cells_of
from peft_eval.study.choosing import choose, repeated
from peft_eval.study.file import Choose, StudyFile, read_study
from peft_eval.study.study import Study

STUDY = """
name = "rank"
[train]
base = "zoo:base"
data = "mini"
tasks = 1
max_steps = 150
[axes]
learning_rate = [1e-4, 1e-3]
[methods.lora]
rank = [8, 64]
[methods.lora-q]
method = "lora"
targets = ["q_proj", "k_proj"]
[methods.full]
learning_rate = 1e-5
[evaluate]
suites = ["mini_unseen"]
[choose]
by = "mini_memorization"
seeds = [42, 127]
[scales.smoke.train]
max_steps = 3
[scales.smoke.methods.lora]
rank = [8]
"""


def study(**changes: Any) -> StudyFile:
    plain = {
        "name": "s",
        "train": {"base": "zoo:base", "data": "mini", "tasks": 1, "max_steps": 2},
        "methods": {"lora": {}},
        "evaluate": {"suites": ["mini_unseen"]},
    }
    return StudyFile.model_validate({**plain, **changes})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rank.toml"
    path.write_text(STUDY)
    return path


def said(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises((ConfigError, ManyErrors)) as caught:
        call(*arguments, **options)
    return str(caught.value)


def test_every_combination_once(file):
    cells = cells_of(read_study(file))
    assert [cell.name for cell in cells] == [
        "lora learning_rate=0.0001 seed=42 rank=8",
        "lora learning_rate=0.0001 seed=42 rank=64",
        "lora learning_rate=0.001 seed=42 rank=8",
        "lora learning_rate=0.001 seed=42 rank=64",
        "lora-q learning_rate=0.0001 seed=42",
        "lora-q learning_rate=0.001 seed=42",
        "full seed=42",
    ]
    assert cells[4].spec.options["targets"] == ["q_proj", "k_proj"]  # a setting that is a list is no axis
    assert cells[6].spec.learning_rate == 1e-5
    assert len({cell.id for cell in cells}) == 7


def test_a_list_of_lists_is_an_axis_of_lists():
    cells = cells_of(study(methods={"lora": {"targets": [["q_proj"], ["q_proj", "v_proj"]]}}))
    assert [cell.spec.options["targets"] for cell in cells] == [["q_proj"], ["q_proj", "v_proj"]]


def test_a_scale_puts_its_settings_in_place(file):
    cells = cells_of(read_study(file, "smoke"))
    assert len(cells) == 5 and {cell.spec.max_steps for cell in cells} == {3}
    assert said(read_study, file, "smok") == "--scale: unknown scale 'smok' (did you mean smoke?)"
    file.write_text(STUDY.replace("[scales.smoke.train]", "[scales.smoke.trian]"))
    assert said(read_study, file) == f"{file}: scales.smoke: unknown key 'trian' (did you mean train?)"
    file.write_text(STUDY.partition("[scales")[0])
    assert said(read_study, file, "smoke") == "--scale smoke: the file has no [scales] (leave it out)"


def test_equal_runs_of_other_studies_are_the_same_cell():
    (one,) = cells_of(study(axes={"seed": [3]}))
    (other,) = cells_of(study(name="other", train={**study().train, "seed": 3}, methods={"mine": {"method": "lora"}}))
    assert one.id == other.id
    (more,) = cells_of(study(axes={"seed": [3]}, train={**study().train, "save_every_steps": 1}))
    assert more.id == one.id  # which changes no weight
    (longer,) = cells_of(study(axes={"seed": [3]}, train={**study().train, "max_steps": 3}))
    assert longer.id != one.id
    assert one.at(seed=4).id == cells_of(study(axes={"seed": [4]}))[0].id


def test_all_tasks_by_their_number_are_the_cell_that_names_none():
    plain = {key: value for key, value in study().train.items() if key != "tasks"}
    (every,) = cells_of(study(train=plain))
    few, counted = cells_of(study(train=plain, axes={"tasks": [2, 52]}))
    assert counted.id == every.id != few.id and counted.coordinates == {"tasks": 52}


def test_another_base_or_other_data_make_another_cell(tmp_path):
    (one,) = cells_of(study())
    assert one.inputs["base weights"] and one.inputs["data content"]
    (fewer,) = cells_of(study(train={**study().train, "tasks": 2}))
    assert fewer.inputs["data content"] != one.inputs["data content"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"learning_rat": [1]}}, "methods.lora: unknown axis 'learning_rat' (did you mean learning_rate"),
        (
            {"methods": {"full": {}, "lora": {}}, "axes": {"rank": [8]}},
            "methods.full: method full has no 'rank' (put it",
        ),
        ({"methods": {"lorra": {}}}, "methods.lorra: unknown method 'lorra' (did you mean lora"),
        ({"methods": {"lora": {"rank": []}}}, "methods.lora: no values for rank: the grid is empty"),
        ({"axes": {"seed": ["x", 1, "y"]}}, "methods.lora: seed: 'x': input should be a valid integer"),
        (
            {"train": {"base": "zoo:base", "data": "mini", "max_steps": 0}},
            "methods.lora: max_steps: 0: input should be",
        ),
        ({"train": {"data": "mini"}}, "is required"),
    ],
)
def test_what_does_not_exist_or_fit_is_named(changes, message):
    assert message in said(cells_of, study(**changes))


def test_all_that_is_wrong_at_once():
    text = said(cells_of, study(axes={"seed": ["x", "y"]}, methods={"lora": {"rank": [0]}, "full": {}}))
    assert text.count("\n") == 4  # two seeds of two methods, one rank


def test_a_grid_of_a_million_is_refused_with_the_count():
    large = study(axes={"seed": list(range(1000)), "max_steps": list(range(1, 1001))})
    assert said(cells_of, large) == (
        "s: the grid has 1,000,000 cells, more than 10,000 (take values out of its axes, or pass --insist)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not valid TOML"),
        ('name = "a b"\n' + STUDY.split("\n", 2)[2], "name: string should match pattern"),
        (STUDY.replace("[axes]", "[axis]"), "axis: unknown key 'axis' (did you mean axes"),
        (STUDY.replace("suites =", "suits ="), "evaluate.suits: unknown key 'suits' (did you mean suites"),
        (STUDY.replace("[1e-4, 1e-3]", "[]"), "axes: no values for learning_rate: the grid is empty"),
        (STUDY.replace('by = "mini_memorization"', 'by = "mini_unseen"'), "mini_unseen both decides and is reported"),
    ],
)
def test_a_file_that_is_no_study(file, text, message):
    file.write_text(text)
    assert message in said(read_study, file)


def test_the_best_value_of_each_group_is_chosen_and_repeated(file):
    cells = cells_of(read_study(file))
    scores = {1e-4: 10.0, 1e-3: 20.0, 1e-5: 5.0}
    rule = Choose(by="mini_memorization", seeds=[42, 127, 894])

    def score_of(cell: Any) -> float | None:
        diverged = cell.coordinates.get("rank") == 64 and cell.spec.learning_rate == 1e-3
        return None if diverged else scores[cell.spec.learning_rate]

    choices = choose(cells, rule, score_of)
    assert [choice.chosen.name for choice in choices if choice.chosen] == [
        "lora learning_rate=0.001 seed=42 rank=8",
        "lora learning_rate=0.0001 seed=42 rank=64",
        "lora-q learning_rate=0.001 seed=42",
        "full seed=42",
    ]
    assert [cell.spec.seed for cell in repeated(choices, rule)] == [127, 894] * 4
    assert choose(cells, rule, lambda cell: None)[0].chosen is None
    lowest = choose(cells, rule.model_copy(update={"higher_is_better": False}), score_of)
    assert lowest[0].chosen and lowest[0].chosen.spec.learning_rate == 1e-4


SHIPPED = sorted((Path(__file__).parents[2] / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
@pytest.mark.parametrize("scale", ["mini", "smoke"])
def test_the_shipped_studies_have_cells_at_every_scale(path, scale):
    paper = read_study(path)
    assert paper.name == path.stem
    small = read_study(path, scale)
    cells = cells_of(small)
    assert {cell.label for cell in cells} == set(paper.methods)
    assert {cell.spec.base for cell in cells} == {"zoo:base"}
    assert all(len({cell.spec.seed for cell in cells if cell.label == label}) >= 1 for label in small.methods)


def test_a_misspelt_suite_is_refused_before_anything_is_trained():
    for change in ({"suites": ["mini_unsen"]}, {"suites": ["mini_unseen"], "curve": ["mini_unsen"]}):
        asked = Study(study(evaluate=change), Path("nowhere"))
        assert said(check_suites, asked).startswith("unknown suite 'mini_unsen' (did you mean mini_unseen")
