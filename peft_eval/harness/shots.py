"""The n-shot column of the results for tasks that put their worked examples into the prompt themselves.

lm-eval counts the examples that it adds itself, which are none there. Such a task says how many it has, in its
`metadata: {num_fewshot: N}`; a group shows what its members agree on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def tell_shots(results: dict[str, Any], tasks: Mapping[str, Any]) -> None:
    """Writes the tasks' own numbers of examples into lm-eval's results."""
    told: dict[str, int] = results.get("n-shot", {})
    own = {name: task.config.metadata["num_fewshot"] for name, task in tasks.items() if _says(task)}
    own = {name: shots for name, shots in own.items() if name in told}
    if not own:
        return
    told |= own
    groups: Mapping[str, list[str]] = results.get("group_subtasks", {})
    for group in groups:
        shots = {told.get(name) for name in _leaves(group, groups)}
        told.pop(group, None)
        if len(shots) == 1 and None not in shots:
            told[group] = shots.pop()  # type: ignore[assignment]


def _says(task: Any) -> bool:
    metadata = getattr(getattr(task, "config", None), "metadata", None)
    return isinstance(metadata, Mapping) and isinstance(metadata.get("num_fewshot"), int)


def _leaves(name: str, groups: Mapping[str, list[str]]) -> list[str]:
    return [leaf for member in groups[name] for leaf in _leaves(member, groups)] if name in groups else [name]
