"""Reads Super-NaturalInstructions files as they are in the wild, and reports every broken one at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peft_eval.data.encoding import Demonstration
from peft_eval.data.superni.decoding import decode_task
from peft_eval.data.superni.task import Instance, Task
from peft_eval.data.text_files import UNREADABLE
from peft_eval.errors import DataError, raise_all
from peft_eval.plain_files import MOST_DATA_BYTES, read_bounded, refuse_crowd, shown

# Other names of listed tasks in versions of the data; the official scorer renames the second to the first.
OTHER_NAMES = {
    "task121_zest_text_modification": ("task121_zest_question_rewriting", "task121_atomic_question_rewriting")
}


_TASK_NAME = re.compile(r"[\w+][\w.+-]*")
_SPLIT_BYTES = 1 << 22


def split_list(folder: Path, track: str, part: str) -> list[str]:
    """Returns the task names of `splits/<track>/<part>_tasks.txt`, in file order, each once.

    Raises:
        DataError: the list is not there, unreadable or empty.
    """
    path = folder / "splits" / track / f"{part}_tasks.txt"
    remedy = "`peft-eval data get superni` fetches the official lists"
    try:
        text = read_bounded(path, _SPLIT_BYTES).decode("utf-8")
    except UNREADABLE as error:
        raise DataError(f"the split list cannot be read: {error}", place=str(path), remedy=remedy) from error
    names = dict.fromkeys(line.strip() for line in text.splitlines())
    names.pop("", None)
    strange = [name for name in names if not _TASK_NAME.fullmatch(name)]
    if strange:
        raise DataError(f"{shown(strange[0])} is no name of a task", place=str(path), remedy=remedy)
    if not names:
        raise DataError("the split list is empty", place=str(path), remedy=remedy)
    return list(names)


def task_file(folder: Path, name: str) -> Path | None:
    """Returns the file that holds a task of the split lists, None if there is none."""
    for candidate in (name, *OTHER_NAMES.get(name, ())):
        path = folder / "tasks" / f"{candidate}.json"
        if path.is_file():
            return path
    return None


def read_tasks(folder: Path, names: Iterable[str], *, instances: int | None = None) -> list[Task]:
    """Reads tasks by name, in the order given.

    Args:
        folder: the folder with `tasks/`.
        names: names as in the split lists.
        instances: read only so many leading instances of each file; None reads all.

    Raises:
        DataError: files are missing or broken; all of them are named, with the field.
    """
    tasks: list[Task] = []
    errors: list[DataError] = []
    for name in names:
        path = task_file(folder, name)
        if path is None:
            errors.append(DataError("there is no such task file", place=str(folder / "tasks" / f"{name}.json")))
            continue
        task, found = read_task(path, name=name, instances=instances)
        errors.extend(found)
        if task is not None:
            tasks.append(task)
    raise_all(errors)
    return tasks


def read_task(
    path: Path, *, name: str | None = None, instances: int | None = None
) -> tuple[Task | None, list[DataError]]:
    """Reads one task file.

    Returns:
        The task and no errors, or None and every error of the file.
    """
    name = name or path.stem
    try:
        text = read_bounded(path, MOST_DATA_BYTES).decode("utf-8")
        if not text.strip():
            return None, [DataError("the file is empty", place=str(path), remedy="fetch or copy it again")]
        refuse_crowd(text)
        fields = decode_task(text, instances)
    except UNREADABLE as error:
        return None, [DataError(f"cannot be read: {error}", place=str(path))]
    except (ValueError, RecursionError) as error:
        return None, [DataError(f"not valid JSON: {error}", place=str(path), remedy="fetch or copy the file again")]
    if not isinstance(fields, dict):
        return None, [DataError("not a JSON object", place=str(path))]
    check = _Fields(path, fields)
    task = Task(
        name=name,
        category=check.first_text("Categories"),
        definition=check.first_text("Definition"),
        positive=check.demonstrations("Positive Examples"),
        negative=check.demonstrations("Negative Examples"),
        instances=check.instances(name),
    )
    return (None, check.errors) if check.errors else (task, [])


class _Fields:
    """Takes typed fields out of a decoded file and gathers what is wrong with them."""

    def __init__(self, path: Path, fields: dict[str, Any]):
        self.errors: list[DataError] = []
        self._path = path
        self._fields = fields

    def _wrong(self, field: str, problem: str) -> None:
        self.errors.append(DataError(f"field {field!r} {problem}", place=str(self._path)))

    def first_text(self, field: str) -> str:
        value = self._fields.get(field)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value.strip():
            return value
        self._wrong(field, "is missing" if field not in self._fields else "is not a text or a list of texts")
        return ""

    def _items(self, field: str) -> list[dict[str, Any]]:
        if field not in self._fields:
            self._wrong(field, "is missing")
            return []
        value = self._fields[field]
        if not isinstance(value, list):
            self._wrong(field, "is not a list")
            return []
        wrong = [index for index, item in enumerate(value) if not isinstance(item, dict)]
        if wrong:
            self._wrong(f"{field}[{wrong[0]}]", "is not an object" + _more(wrong))
            return []
        return value

    def _texts(self, field: str, items: list[dict[str, Any]], key: str) -> None:
        wrong = [index for index, item in enumerate(items) if not isinstance(item.get(key), str)]
        if wrong:
            self._wrong(f"{field}[{wrong[0]}].{key}", "is missing or no text" + _more(wrong))

    def demonstrations(self, field: str) -> tuple[Demonstration, ...]:
        items = self._items(field)
        before = len(self.errors)
        self._texts(field, items, "input")
        self._texts(field, items, "output")
        if len(self.errors) > before:
            return ()
        return tuple(
            Demonstration(
                item["input"], item["output"], text if isinstance(text := item.get("explanation"), str) else None
            )
            for item in items
        )

    def instances(self, task: str) -> tuple[Instance, ...]:
        field = "Instances"
        before = len(self.errors)
        items = self._items(field)
        if not items and len(self.errors) == before:
            self._wrong(field, "is empty")
        self._texts(field, items, "input")
        wrong = [index for index, item in enumerate(items) if not _references(item.get("output"))]
        if wrong:
            self._wrong(f"{field}[{wrong[0]}].output", "is not a text or a list of at least one text" + _more(wrong))
        if len(self.errors) > before:
            return ()
        return tuple(
            Instance(
                id=str(item["id"]) if item.get("id") not in (None, "") else f"{task}#{index}",
                input=item["input"],
                outputs=_references(item["output"]),
            )
            for index, item in enumerate(items)
        )


def _more(wrong: list[int]) -> str:
    return f" (and in {len(wrong) - 1} more)" if len(wrong) > 1 else ""


def _references(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    return ()
