"""One member of a suite by its name in the results: `--tasks tulu_tydiqa_gp::finnish`.

Some groups make their members when they are loaded, from a list in their YAML (`task: !function ...`), and lm-eval
knows such members by no name of their own. Here `GROUP::MEMBER` is looked up in that list, and in the groups within it;
where a name stands there more than once, `GROUP::GROUP::MEMBER` tells which.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from typing import Any

from peft_eval.errors import ConfigError, unknown_name

_WITHIN = "::"


def find_members(manager_class: Any) -> None:
    """Lets lm-eval's `TaskManager` find members of groups that make them when they are loaded."""
    match_tasks, load_spec = manager_class.match_tasks, manager_class._load_spec

    @functools.wraps(match_tasks)
    def match_with_members(self: Any, task_list: list[str]) -> list[str]:
        found = list(match_tasks(self, task_list))
        return found + [name for name in task_list if name not in found and _narrowed(self, name) is not None]

    @functools.wraps(load_spec)
    def load_with_members(self: Any, spec: Any) -> Any:
        narrowed = _narrowed(self, spec)
        if narrowed is None:
            return load_spec(self, spec)
        config, name = narrowed
        group = self._factory._build_group(spec.split(_WITHIN)[0], config, None, self.task_index)
        inner = {one.name: one for one in group.get_all_groups()} | {
            one.task_name: one for one in group.get_all_tasks()
        }
        return inner[name]

    manager_class.match_tasks, manager_class._load_spec = match_with_members, load_with_members


def _narrowed(manager: Any, spec: Any) -> tuple[dict[str, Any], str] | None:
    """Returns a group's YAML with the members on the way to the one asked for, and its whole name; else None.

    Raises:
        ConfigError: the group has no such member, or several.
    """
    if not isinstance(spec, str) or _WITHIN not in spec or spec in manager.task_index:
        return None
    head, *path = spec.split(_WITHIN)
    entry = manager.task_index.get(head)
    if entry is None or head not in manager.all_groups:
        return None
    whole = manager._factory._load_full_config(entry, None)
    path = _whole_path(list(_paths(whole.get("task"))), path, head)
    return {**whole, "task": _on_the_way(whole.get("task"), path)}, _WITHIN.join([head, *path])


def _whole_path(known: list[list[str]], path: list[str], head: str) -> list[str]:
    """Returns the way to a member; one that is unique below the group needs no groups between."""
    found = [path] if path in known else [one for one in known if one[-len(path) :] == path]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(_WITHIN.join([head, *one]) for one in found)
        raise ConfigError(f"{_WITHIN.join([head, *path])} may be {several}", place="--tasks", remedy="name one of them")
    above = path[:-1] if path[:-1] in known else []
    below = [one for one in known if one[: len(above)] == above and len(one) > len(above)]
    names = {one[-1] for one in below}
    if not difflib.get_close_matches(path[-1], names, cutoff=0.6):
        names = {one[len(above)] for one in below}
    place = _WITHIN.join([head, *above])
    raise unknown_name(f"member of {place}", _WITHIN.join(path[len(above) :]), names, place="--tasks")


def _paths(members: Any) -> Iterator[list[str]]:
    for one in members or []:
        if isinstance(one, dict):
            name = str(one.get("group") or one.get("task"))
            yield [name]
            if one.get("group"):
                yield from ([name, *rest] for rest in _paths(one.get("task")))


def _on_the_way(members: Any, path: list[str]) -> list[dict[str, Any]]:
    member = next(one for one in members if isinstance(one, dict) and path[0] in (one.get("group"), one.get("task")))
    return [member if len(path) == 1 else {**member, "task": _on_the_way(member.get("task"), path[1:])}]
