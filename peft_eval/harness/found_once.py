"""What lm-eval finds out anew in each run though it is the same in all: the task files, and the environment.

Of 2 cores, its index of 14,000 task files takes nine seconds, `torch.utils.collect_env` some more.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def found_once() -> Iterator[None]:
    """Lets the runs of a block find both out once."""
    from lm_eval.tasks._index import TaskIndex
    from torch.utils import collect_env

    build, describe = TaskIndex.build, collect_env.get_pretty_env_info
    known: dict[str, dict[str, Any]] = {}

    def build_once(paths: Iterable[Path], **options: Any) -> dict[str, Any]:
        places = list(paths)
        key = json.dumps([[str(place) for place in places], options], sort_keys=True, default=str)
        if key not in known:
            known[key] = build(places, **options)
        return dict(known[key])

    TaskIndex.build = staticmethod(build_once)  # type: ignore[method-assign,assignment]
    collect_env.get_pretty_env_info = functools.cache(describe)
    try:
        yield
    finally:
        TaskIndex.build = staticmethod(build)  # type: ignore[method-assign]
        collect_env.get_pretty_env_info = describe
