"""What the suites' folders say of themselves, read from their YAMLs without importing lm-eval.

A suite is a folder; the names that `lm_eval --tasks` takes are the groups in it. A group's YAML
tells in its `metadata` what it measures and which data it needs:

    group: mini_unseen
    task: [mini_dates, mini_sorting]
    metadata:
      version: 1
      measures: unseen instruction tasks made by program
      data: none
      reads: [mini_seed]

`reads` are the names that the folder's tasks look for in `lm_eval --metadata NAME=VALUE`. A group whose members are
made by a `!function` also tells how many `tasks` they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from peft_eval.errors import DataError, PeftEvalError, raise_all, unknown_name

UNKNOWN = "unknown"
OF_TRAINING_DATA = "memorization"  # how suites on what a checkpoint was trained on begin: a base has no such data


@dataclass(frozen=True, slots=True)
class Suite:
    """A group of tasks as `lm_eval --tasks NAME` takes it.

    Attributes:
        name: the group's name.
        folder: name of the suite's folder.
        tasks: how many tasks lm-eval runs for it.
        measures: one line; from the YAML, else the title of the folder's README.
        data: what has to be there before it runs.
    """

    name: str
    folder: str
    tasks: int
    measures: str
    data: str


class _TaskLoader(yaml.SafeLoader):
    """Reads lm-eval's YAMLs: `!function module.name` and other tags become plain text, nothing is imported."""


def _tag_as_text(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> str:
    return str(node.value)


_TaskLoader.add_multi_constructor("!", _tag_as_text)


def read_suites(folders: Mapping[str, Path]) -> list[Suite]:
    """Reads the groups of every folder, in order of folder and name.

    Args:
        folders: the suites' folders by name, as `peft_eval.plugins.suites` returns them.

    Raises:
        DataError: a YAML that cannot be read; every broken file is named.
    """
    found: list[Suite] = []
    errors: list[PeftEvalError] = []
    for name, folder in folders.items():
        groups: dict[str, dict[str, Any]] = {}
        for path in sorted(Path(folder).rglob("*.yaml")):
            try:
                groups |= _groups_of(path)
            except DataError as error:
                errors.append(error)
        found += [_suite(name, Path(folder), group, groups) for group in sorted(groups)]
    raise_all(errors)
    return found


def check_tasks(names: Iterable[str], folders: Mapping[str, Path]) -> None:
    """Checks that lm-eval will find suites or tasks; its own are only looked up where a name is none of ours.

    Args:
        names: as `lm_eval --tasks` takes them.
        folders: the suites' folders by name, as `peft_eval.plugins.suites` returns them.

    Raises:
        ConfigError: there is no such suite or task; near matches are listed.
    """
    ours = {suite.name for suite in read_suites(folders)}
    others = [name for name in names if name not in ours]
    if others:
        from lm_eval.tasks import TaskManager

        from peft_eval.harness.extensions import extend_all

        extend_all()
        manager = TaskManager()
        for name in others:
            if not manager.match_tasks([name]):
                raise unknown_name("suite", name, ours if get_close_matches(name, ours) else manager.all_tasks)


def metadata_names(folders: Mapping[str, Path]) -> set[str]:
    """Returns the names that the suites look for in `lm_eval --metadata NAME=VALUE`.

    Args:
        folders: the suites' folders by name, as `peft_eval.plugins.suites` returns them.
    """
    groups = [
        group for folder in folders.values() for path in folder.rglob("*.yaml") for group in _groups_of(path).values()
    ]
    return {name for group in groups for name in (group.get("metadata") or {}).get("reads") or ()}


def _groups_of(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_TaskLoader)  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"not a readable YAML: {reason}", place=str(path), remedy="repair or remove the file"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("group"), str):
        return {content["group"]: content}
    return {}


def _suite(folder_name: str, folder: Path, group: str, groups: dict[str, dict[str, Any]]) -> Suite:
    metadata = groups[group].get("metadata") or {}
    return Suite(
        name=group,
        folder=folder_name,
        tasks=len(_leaves(group, groups, ())),
        measures=str(metadata.get("measures") or _readme_title(folder)),
        data=str(metadata.get("data") or UNKNOWN),
    )


def _leaves(name: str, groups: dict[str, dict[str, Any]], above: tuple[str, ...]) -> set[str]:
    """Returns the tasks under a group; a group within a group is followed, a circle is not."""
    if name not in groups or name in above:
        return {name}
    leaves: set[str] = set()
    members = groups[name].get("task") or []
    if isinstance(members, str):  # a list made by a `!function`, of which the metadata tell the length
        return {f"{name}::{index}" for index in range((groups[name].get("metadata") or {}).get("tasks", 0))}
    for member in members:
        member_name = member.get("task") or member.get("group") if isinstance(member, dict) else member
        if isinstance(member_name, str):
            leaves |= _leaves(member_name, groups, (*above, name))
    return leaves


def _readme_title(folder: Path) -> str:
    readme = folder / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else []
    return next((line.lstrip("# ").strip() for line in lines if line.strip()), UNKNOWN)
