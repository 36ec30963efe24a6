"""Tasks and their requests, made once for several checkpoints.

Reading a suite's data and rendering its prompts takes seconds to minutes and gives the same for every checkpoint with
the same tokenizer and template. What may depend on the checkpoint itself is made anew: the memorization suite, and
tasks of other packages that make their documents by a function, which lm-eval hands the checkpoint's name.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.hashing import tokenizer_sha256

# What a run's metadata say of the checkpoint; all else is of the tasks.
_OF_THE_CHECKPOINT = ("peft", "pretrained", "force_base", "route", "revision", "tokenizer")


class TasksOnce:
    """Loaded tasks and built requests by what they depend on."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}
        self._built: dict[tuple[int, str], list[Any]] = {}

    def load(self, manager: Any, call: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
        """Returns what `manager.load` gives for a run's tasks, from an earlier run if that gave the same.

        Args:
            manager: lm-eval's task manager.
            call: the arguments of `simple_evaluate`.
            metadata: the task manager's.
        """
        key = _json(
            [
                call["tasks"],
                {name: value for name, value in metadata.items() if name not in _OF_THE_CHECKPOINT},
                _tokenizer_of(metadata),
                [call[name] for name in ("num_fewshot", "predict_only", "gen_kwargs", "fewshot_random_seed")],
            ]
        )
        if key not in self._loaded:
            found = manager.load(call["tasks"])
            if any(depends_on_checkpoint(task) for task in found["tasks"].values()):
                return found
            self._loaded[key] = found
            for task in found["tasks"].values():
                self._build_once(task)
        for task in self._loaded[key]["tasks"].values():
            _rename(task, metadata)
        return self._loaded[key]

    def _build_once(self, task: Any) -> None:
        build = task.build_all_requests

        def build_or_copy(**options: Any) -> None:
            key = (id(task), _json({name: _named(value) for name, value in options.items()}))
            if key in self._built:
                task._instances = [_fresh(one) for one in self._built[key]]
                return
            build(**options)
            if type(task._instances) is list:
                self._built[key] = [_fresh(one) for one in task._instances]

        task.build_all_requests = build_or_copy


def _rename(task: Any, metadata: Mapping[str, Any]) -> None:
    """Puts this run's checkpoint into a task's metadata, which the results hold, in place of an earlier run's."""
    kept = getattr(getattr(task, "config", None), "metadata", None)
    if isinstance(kept, dict):
        for name in _OF_THE_CHECKPOINT:
            kept.pop(name, None)
            if name in metadata:
                kept[name] = metadata[name]


def depends_on_checkpoint(task: Any) -> bool:
    """Tells whether another checkpoint may make other documents or prompts of a task."""
    own = getattr(task, "of_the_checkpoint", None)
    if own is not None:
        return bool(own)
    made_by = getattr(getattr(task, "config", None), "custom_dataset", None)
    return made_by is not None and not _is_ours(made_by)


def _is_ours(function: Any) -> bool:
    """Tells whether a function comes from a suite of ours, none of which looks at more than the tokenizer."""
    from peft_eval.resources import tasks_folder

    code = getattr(function, "__code__", None)
    return code is not None and Path(code.co_filename).resolve().is_relative_to(tasks_folder().resolve())


def _fresh(instance: Any) -> Any:
    return dataclasses.replace(instance, resps=[], filtered_resps={})


def _named(value: Any) -> Any:
    """Returns what a built request depends on: of a model's method that renders a template, the template."""
    if not callable(value):
        return value
    model = getattr(value, "__self__", None)
    return [str(getattr(model, "hf_chat_template", None)), str(getattr(model, "chat_template_args", None))]


def _tokenizer_of(metadata: Mapping[str, Any]) -> str | None:
    from peft_eval.harness.task_tokenizer import task_tokenizer

    tokenizer = task_tokenizer(metadata)
    if tokenizer is None:
        return None
    place = str(tokenizer.name_or_path)
    return (tokenizer_sha256(Path(place)) if Path(place).is_dir() else None) or place


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
