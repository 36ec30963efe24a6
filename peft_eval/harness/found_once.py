"""What lm-eval finds out anew in each run though it is the same in all: the task files, and the environment.

Of 2 cores, its index of 14,000 task files takes nine seconds, `torch.utils.collect_env` some more.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def found_once(tasks: Sequence[str] = ()) -> Iterator[None]:
    """Lets the runs of a block find both out once.

    Args:
        tasks: what the runs ask. Where all of it is in other folders than lm-eval's own, that one is not read.
    """
    from lm_eval import tasks as lm_eval_tasks
    from lm_eval.tasks._index import TaskIndex
    from torch.utils import collect_env

    build, describe = TaskIndex.build, collect_env.get_pretty_env_info
    known: dict[str, dict[str, Any]] = {}

    own = Path(str(lm_eval_tasks.__file__)).parent

    def build_needed(paths: Iterable[Path], **options: Any) -> dict[str, Any]:
        places = list(paths)
        others = [place for place in places if place != own]
        if tasks and others != places:
            found = build_once(others, **options)
            if all(_complete(name.partition("::")[0], found) for name in tasks):
                return found
        return build_once(places, **options)

    def build_once(places: list[Path], **options: Any) -> dict[str, Any]:
        key = json.dumps([[str(place) for place in places], options], sort_keys=True, default=str)
        if key not in known:
            known[key] = build(places, **options)
        return dict(known[key])

    TaskIndex.build = staticmethod(build_needed)  # type: ignore[method-assign,assignment]
    collect_env.get_pretty_env_info = functools.cache(describe)
    try:
        yield
    finally:
        TaskIndex.build = staticmethod(build)  # type: ignore[method-assign]
        collect_env.get_pretty_env_info = describe


def _complete(name: str, index: dict[str, Any]) -> bool:
    """Tells whether a task, and of a group every member that it names, is in an index."""
    entry = index.get(name)
    if entry is None:
        return False
    members = (entry.cfg or {}).get("task")
    named = [one for one in members if isinstance(one, str)] if isinstance(members, list) else []
    return all(_complete(one, index) for one in named)
