"""What lm-eval's `simple_evaluate` and `evaluate` do besides, for every front end of theirs.

- Tasks are loaded before the model, so that missing data, a misspelt option or no --confirm_run_unsafe_code cost no
  engine start.
- A checkpoint trained with a chat template is asked with it. The user's choice wins: `--apply_chat_template`
  as ever, and `--apply_chat_template false` for plain prompts.
- Tasks that render their prompts themselves (`metadata: {template: verbatim}`) never get a template on top.
- A task may have the last word on its row of the results: `complete_results(results)`.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from peft_eval.checkpoint.location import resolve_folder
from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest
from peft_eval.checkpoint.writing import CHAT_TEMPLATE
from peft_eval.errors import ConfigError
from peft_eval.harness.session import current_session
from peft_eval.harness.shots import tell_shots
from peft_eval.harness.suites import metadata_names
from peft_eval.plugins import suites

logger = logging.getLogger("lm_eval.peft_eval")  # lm-eval shows what its own loggers say

_OF_THE_MODEL = {"peft", "pretrained", "revision", "tokenizer"}  # what tasks read besides, set by the model's arguments
_OFF = {"false", "off", "no", "none", "0"}
_NAMED = 5


@dataclass(frozen=True, slots=True)
class TemplateChoice:
    """Whether prompts are rendered with a chat template.

    Attributes:
        applied: what goes to lm-eval: False, True, or a template's name.
        reason: who decided.
        sha256: hash of the checkpoint's template, where that is what is applied.
    """

    applied: bool | str
    reason: str
    sha256: str | None = None

    def as_record(self) -> dict[str, Any]:
        """Returns what the results say of it."""
        return {"applied": bool(self.applied), "reason": self.reason, "checkpoint_template_sha256": self.sha256}


def choose_template(asked: bool | str | None, checkpoint: str | None) -> TemplateChoice:
    """Decides on the chat template.

    Args:
        asked: the user's `--apply_chat_template`; False or None where it was not given.
        checkpoint: what `peft=` names, if anything.

    Raises:
        CheckpointError, ConfigError: there is no such checkpoint, or its manifest cannot be read.
    """
    if isinstance(asked, str) and asked.lower() in _OFF:
        return TemplateChoice(False, "switched off by --apply_chat_template")
    folder = resolve_folder(checkpoint) if checkpoint else None
    manifest = Manifest.read(folder) if folder and (folder / MANIFEST_NAME).is_file() else None
    trained_with = manifest.text.chat_template_sha256 if manifest else None
    if asked:
        return TemplateChoice(asked, "asked for by --apply_chat_template", trained_with)
    if trained_with:
        return TemplateChoice(True, "the checkpoint was trained with it", trained_with)
    if folder and manifest is None and (folder / CHAT_TEMPLATE).is_file():
        logger.warning(
            "%s has a chat template but no manifest that says whether it was trained with it: prompts are plain; "
            "--apply_chat_template applies it",
            checkpoint,
        )
    return TemplateChoice(False, "plain text is lm-eval's default" if manifest is None else "trained on plain text")


def extended_simple_evaluate(simple_evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """Returns lm-eval's `simple_evaluate` with tasks loaded first and the checkpoint's template by default."""
    signature = inspect.signature(simple_evaluate)

    @functools.wraps(simple_evaluate)
    def simple_evaluate_with_template(*args: Any, **options: Any) -> Any:
        given = signature.bind(*args, **options)
        given.apply_defaults()
        call = given.arguments
        choice = choose_template(call["apply_chat_template"], _checkpoint_of(call["model"], call["model_args"]))
        call["apply_chat_template"] = choice.applied
        if choice.applied:
            logger.info("prompts are rendered with the chat template: %s", choice.reason)
        if choice.applied and call["fewshot_as_multiturn"] is None:
            call["fewshot_as_multiturn"] = True
        if isinstance(call["model"], str) and call["tasks"]:
            call["task_manager"] = _loaded_first(call)
        results = simple_evaluate(**call)
        block = (results or {}).get("config", {}).get("peft_eval")
        if block is not None:
            block["template"] = choice.as_record()
        return results

    return simple_evaluate_with_template


def extended_evaluate(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """Returns lm-eval's `evaluate`, leaving tasks that render themselves alone and letting tasks complete results."""
    signature = inspect.signature(evaluate)

    @functools.wraps(evaluate)
    def evaluate_and_complete(*args: Any, **options: Any) -> Any:
        call = signature.bind(*args, **options).arguments
        tasks = _tasks_of(call["task_dict"])
        if call.get("apply_chat_template"):
            _leave_alone({name: task for name, task in tasks.items() if renders_itself(task)})
        results = evaluate(**call)
        if results is not None:
            tell_shots(results, tasks)
        for task in tasks.values():
            if results is not None and hasattr(task, "complete_results"):
                task.complete_results(results)
        return results

    return evaluate_and_complete


def renders_itself(task: Any) -> bool:
    """Tells whether a task's prompts are complete as they are."""
    metadata = getattr(getattr(task, "config", None), "metadata", None)
    return isinstance(metadata, Mapping) and metadata.get("template") == "verbatim"


def _checkpoint_of(model: Any, model_args: Any) -> str | None:
    if not isinstance(model, str):
        route = getattr(model, "_route", None)
        return str(route.checkpoint.folder) if route is not None else None
    from lm_eval.utils import simple_parse_args_string

    values = simple_parse_args_string(model_args) if isinstance(model_args, str) else model_args or {}
    return str(values["peft"]) if values.get("peft") else None


def _loaded_first(call: Mapping[str, Any]) -> Any:
    """Loads the tasks and returns a task manager that hands these out once, instead of loading them again."""
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import simple_parse_args_string

    manager = call["task_manager"]
    model_args = call["model_args"]
    values = simple_parse_args_string(model_args) if isinstance(model_args, str) else model_args or {}
    metadata = values | (call["metadata"] or {})
    if call["metadata"]:
        _warn_of_misspelt(frozenset(call["metadata"]))
    if manager is None:
        manager = TaskManager(metadata=metadata)
    _seed(call)  # what a task draws while it loads must not depend on what ran before
    shared = current_session()
    if shared is not None and shared.tasks is not None:
        loaded = shared.tasks.load(manager, call, metadata)
    else:
        loaded = manager.load(call["tasks"])
    unsafe = [name for name, task in _tasks_of(loaded).items() if getattr(task, "UNSAFE_CODE", False)]
    if unsafe and not call["confirm_run_unsafe_code"]:
        raise ConfigError(
            f"{_listed(unsafe)}: programs that the model writes will be run",
            place="--tasks",
            remedy="add --confirm_run_unsafe_code",
        )

    def load(names: Any) -> Any:
        del manager.load  # the method of its class again
        return loaded

    manager.load = load
    return manager


@functools.cache
def _warn_of_misspelt(names: frozenset[str]) -> None:
    """Warns, once, of metadata that look like what a suite reads, and are not; others may be a user's own tasks'."""
    known = metadata_names(suites()) | _OF_THE_MODEL
    for name in sorted(names - known):
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
            logger.warning("--metadata %s: no suite of peft-eval's reads it; did you mean %s?", name, near[0])


def _seed(call: Mapping[str, Any]) -> None:
    import numpy as np

    if call["random_seed"] is not None:
        random.seed(call["random_seed"])
    if call["numpy_random_seed"] is not None:
        np.random.seed(call["numpy_random_seed"])


def _tasks_of(task_dict: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the tasks of either form that `evaluate` takes: the loader's, or the older nested one."""
    if "tasks" in task_dict:
        return dict(task_dict["tasks"])
    found: dict[str, Any] = {}
    for name, entry in task_dict.items():
        found |= _tasks_of(entry) if isinstance(entry, Mapping) else {str(name): entry}
    return found


def _leave_alone(tasks: Mapping[str, Any]) -> None:
    for task in tasks.values():
        build = task.build_all_requests
        if getattr(build, "func", None) is not _without_template:  # tasks may serve several runs
            task.build_all_requests = functools.partial(_without_template, build)
    if tasks:
        logger.info("no chat template on top of what is rendered already: %s", _listed(tasks))


def _without_template(build: Callable[..., None], **options: Any) -> None:
    build(**options | {"apply_chat_template": False, "chat_template": None, "tokenizer_name": ""})


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - _NAMED} more tasks" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more
