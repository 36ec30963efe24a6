"""Checkpoints on the way of a run, as training with `keep_checkpoints` names them: `CHECKPOINT-steps/step-N`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from peft_eval.study.results import Run

_ON_THE_WAY = re.compile(r"(?P<checkpoint>.+)-steps/step-(?P<step>\d+)")
Steps = dict[int, tuple[Run, ...]]


def runs_on_the_way(runs: Mapping[str, Sequence[Run]]) -> dict[str, Steps]:
    """Returns for each checkpoint the runs of its earlier states, by step."""
    found: dict[str, Steps] = {}
    for name, own in runs.items():
        if match := _ON_THE_WAY.fullmatch(name):
            found.setdefault(match["checkpoint"], {})[int(match["step"])] = tuple(own)
    return {name: dict(sorted(steps.items())) for name, steps in found.items()}


def is_on_the_way(name: str, runs: Mapping[str, Sequence[Run]]) -> bool:
    """Tells whether a name is of a state on the way to a checkpoint that was evaluated as well."""
    match = _ON_THE_WAY.fullmatch(name)
    return match is not None and match["checkpoint"] in runs
