"""One member of a suite by its name in the results: `--tasks tulu_tydiqa_gp::finnish`.

Some groups make their members when they are loaded, from a list in their YAML (`task: !function ...`), and lm-eval
knows such members by no name of their own. Here `GROUP::MEMBER`, with further `::` for groups within, is looked up in
that list.
"""

from __future__ import annotations

import functools
from typing import Any

from peft_eval.errors import unknown_name

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
        group = self._factory._build_group(spec.split(_WITHIN)[0], narrowed, None, self.task_index)
        inner = {one.name: one for one in group.get_all_groups()} | {
            one.task_name: one for one in group.get_all_tasks()
        }
        return inner[spec]

    manager_class.match_tasks, manager_class._load_spec = match_with_members, load_with_members


def _narrowed(manager: Any, spec: Any) -> dict[str, Any] | None:
    """Returns a group's YAML with the members on the way to the one asked for; None for every other name.

    Raises:
        ConfigError: the group has no such member.
    """
    if not isinstance(spec, str) or _WITHIN not in spec or spec in manager.task_index:
        return None
    head, *path = spec.split(_WITHIN)
    entry = manager.task_index.get(head)
    if entry is None or head not in manager.all_groups:
        return None
    whole = manager._factory._load_full_config(entry, None)
    return {**whole, "task": _on_the_way(whole.get("task"), path, head)}


def _on_the_way(members: Any, path: list[str], place: str) -> list[dict[str, Any]]:
    named = {one.get("group") or one.get("task"): one for one in members or [] if isinstance(one, dict)}
    if path[0] not in named:
        raise unknown_name(f"member of {place}", path[0], [str(name) for name in named], place="--tasks")
    member = named[path[0]]
    if len(path) == 1:
        return [member]
    return [{**member, "task": _on_the_way(member.get("task"), path[1:], f"{place}{_WITHIN}{path[0]}")}]
