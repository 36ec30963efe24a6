"""Task files as they are in the wild, and broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peft_eval.data.encoding import Demonstration
from peft_eval.data.superni.reader import read_task, read_tasks, split_list
from peft_eval.data.superni.task import Instance
from peft_eval.errors import DataError, ManyErrors


def test_a_file_becomes_typed_data(tiny_superni) -> None:
    path = tiny_superni.add("task1_a", instances=2)
    task, errors = read_task(path)
    assert errors == []
    assert (task.name, task.category, task.definition) == ("task1_a", "Title Generation", "Give the text a title")
    assert task.positive[0] == Demonstration("A dog barks", "Dog", "It is short")
    assert task.instances == (
        Instance("id-0", " story number 0 ", ("title 0", "0 title")),
        Instance("id-1", " story number 1 ", ("title 1", "1 title")),
    )


def test_what_files_really_look_like(tiny_superni) -> None:
    path = tiny_superni.add(
        "task2_b",
        Categories="Data to Text",
        Definition="Only a string",
        Instances=[{"input": "x", "output": "one reference"}, {"id": "", "input": "", "output": ["🙂\n", ""]}],
        **{"Positive Examples": [{"input": "a", "output": "b"}], "Negative Examples": []},
    )
    task, errors = read_task(path)
    assert errors == []
    assert (task.category, task.definition) == ("Data to Text", "Only a string")
    assert task.positive[0].explanation is None
    assert [instance.id for instance in task.instances] == ["task2_b#0", "task2_b#1"]
    assert [instance.outputs for instance in task.instances] == [("one reference",), ("🙂\n", "")]


@pytest.mark.parametrize("count", [1, 3, 7, 8])
@pytest.mark.parametrize("indent", [None, 4])
def test_reading_the_first_instances_equals_reading_all(tiny_superni, count: int, indent: int | None) -> None:
    path = tiny_superni.folder / "tasks" / "task3_c.json"
    content = tiny_superni.content(instances=7)
    content["Instances"][2]["input"] = 'a ] and a } and a \\" within'
    path.write_text(json.dumps(content, indent=indent))
    whole, _ = read_task(path)
    part, errors = read_task(path, instances=count)
    assert errors == []
    assert part.instances == whole.instances[:count]
    assert (part.definition, part.positive, part.negative) == (whole.definition, whole.positive, whole.negative)


def test_instances_before_the_other_fields_are_read_as_well(tiny_superni) -> None:
    content = tiny_superni.content(instances=5)
    path = tiny_superni.folder / "tasks" / "task4_d.json"
    path.write_text(json.dumps({"Instances": content.pop("Instances"), **content}))
    task, errors = read_task(path, instances=2)
    assert errors == []
    assert task.definition == "Give the text a title"


BROKEN = {
    "empty": ("", "the file is empty"),
    "cut": (None, "not valid JSON"),
    "list": ("[]", "not a JSON object"),
    "no_definition": ({"Definition": None}, "field 'Definition' is missing"),
    "no_categories": ({"Categories": []}, "field 'Categories' is not a text"),
    "no_instances": ({"Instances": None}, "field 'Instances' is missing"),
    "empty_instances": ({"Instances": []}, "field 'Instances' is empty"),
    "no_input": (
        {"Instances": [{"input": "a", "output": ["b"]}, {"output": ["b"]}]},
        "'Instances[1].input' is missing",
    ),
    "no_output": ({"Instances": [{"input": "a", "output": []}]}, "'Instances[0].output' is not a text or a list of"),
    "numbers": ({"Instances": [{"input": "a", "output": [1]}, 3]}, "'Instances[1]' is not an object"),
    "example": ({"Positive Examples": [{"input": "a"}]}, "'Positive Examples[0].output' is missing or no text"),
    "examples": ({"Negative Examples": {}}, "field 'Negative Examples' is not a list"),
}


def write_broken(tiny_superni, name: str) -> Path:
    content, _ = BROKEN[name]
    path = tiny_superni.folder / "tasks" / f"{name}.json"
    if isinstance(content, dict):
        return tiny_superni.add(name, **content)
    path.write_text(json.dumps(tiny_superni.content())[:-40] if content is None else content)
    return path


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("instances", [None, 2])
def test_a_broken_file_is_named_with_its_field(tiny_superni, name: str, instances: int | None) -> None:
    path = write_broken(tiny_superni, name)
    task, errors = read_task(path, instances=instances)
    assert task is None
    assert len(errors) == 1
    assert str(errors[0]).startswith(f"{path}: ")
    assert BROKEN[name][1] in str(errors[0])


def test_all_broken_files_are_reported_together(tiny_superni) -> None:
    for name in BROKEN:
        write_broken(tiny_superni, name)
    tiny_superni.add("good")
    (tiny_superni.folder / "tasks" / "latin.json").write_bytes(b'{"Definition": "\xe9"}')
    with pytest.raises(ManyErrors) as caught:
        read_tasks(tiny_superni.folder, ["good", *BROKEN, "latin", "absent"])
    lines = str(caught.value).splitlines()
    assert len(lines) == len(BROKEN) + 2
    assert all(f"{name}.json" in line for name, line in zip([*BROKEN, "latin", "absent"], lines, strict=True))


def test_one_file_with_several_faults_names_each(tiny_superni) -> None:
    path = tiny_superni.add("task5_e", Definition=None, Categories=3)
    _, errors = read_task(path)
    assert [error.problem for error in errors] == [
        "field 'Categories' is not a text or a list of texts",
        "field 'Definition' is missing",
    ]


@pytest.mark.parametrize("name", ["task121_zest_question_rewriting", "task121_atomic_question_rewriting"])
def test_task121_is_found_under_its_other_names(tiny_superni, name: str) -> None:
    tiny_superni.add(name, "Question Rewriting")
    (task,) = read_tasks(tiny_superni.folder, ["task121_zest_text_modification"])
    assert task.name == "task121_zest_text_modification"


def test_split_list(tiny_superni) -> None:
    path = tiny_superni.split("train", ["task2_b", " task1_a ", "", "task2_b"])
    assert split_list(tiny_superni.folder, "default", "train") == ["task2_b", "task1_a"]
    path.write_text("\n")
    with pytest.raises(DataError, match="split list is empty"):
        split_list(tiny_superni.folder, "default", "train")
    with pytest.raises(DataError, match=r"xlingual.*cannot be read"):
        split_list(tiny_superni.folder, "xlingual", "test")


def test_every_real_file_is_read(shared_data: Path) -> None:
    paths = sorted((shared_data / "superni" / "tasks").glob("*.json"))
    assert len(paths) == 217
    for path in paths:
        part, errors = read_task(path, instances=100)
        assert errors == []
        raw = json.loads(path.read_text(encoding="utf-8"))["Instances"][:100]
        assert [instance.input for instance in part.instances] == [item["input"] for item in raw]
