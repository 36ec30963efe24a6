"""What peft-eval adds to lm-eval's modules, each right after the module was loaded.

lm-eval 0.4.13 discovers neither models nor tasks of other packages. Where a newer one does (the
entry-point groups `lm_eval.models` and so on, declared in pyproject.toml), the names are already
there and nothing is added.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import re
import sys
import warnings
from types import ModuleType
from typing import Any

from peft_eval import plugins
from peft_eval.errors import PeftEvalError, unknown_name
from peft_eval.harness.autoload import EXTENDED_MODULES
from peft_eval.harness.cpu_distribution import install_finder

_MARK = "_extended_by_peft_eval"
MODELS = {
    "copy-input": "peft_eval.harness.baselines:CopyInput",
    "copy-demo": "peft_eval.harness.baselines:CopyDemo",
    "saved-answers": "peft_eval.harness.saved_answers:SavedAnswers",
}


def extend(module: ModuleType) -> None:
    """Extends one of lm-eval's modules that `EXTENDED_MODULES` names, once."""
    if not getattr(module, _MARK, False):
        setattr(module, _MARK, True)
        globals()[EXTENDED_MODULES[module.__name__]](module)


def extend_all() -> None:
    """Extends all of them now, for a run without the autoload; vLLM's only where vLLM is installed."""
    install_finder()
    for name in EXTENDED_MODULES:
        if "vllm" not in name or importlib.util.find_spec("vllm"):
            extend(importlib.import_module(name))


def extend_command(module: ModuleType) -> None:
    """Lets `lm_eval` print a user's error, an unknown task or model too, as one line and end with exit code 2.

    Where bitsandbytes is installed, peft imports it, and it warns at each start of a kernel that it could download.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    execute = module.HarnessCLI.execute

    @functools.wraps(execute)
    def execute_and_report(self: Any, args: Any) -> None:
        try:
            execute(self, args)
        except PeftEvalError as error:
            for line in str(error).splitlines():
                print(f"error: {line}", file=sys.stderr)
            sys.exit(error.exit_code)
        except ValueError as error:
            known = _line_of_unknown_name(str(error))
            if known is None:
                raise
            print(f"error: {known}", file=sys.stderr)
            sys.exit(PeftEvalError.exit_code)

    module.HarnessCLI.execute = execute_and_report


def _line_of_unknown_name(said: str) -> str | None:
    """Returns a line for lm-eval's words on a task or a model that it does not know, None for other words."""
    if said.startswith("Tasks not found: "):
        return f"--tasks: {said} (`peft-eval suites` and `lm_eval ls tasks` list them)"
    model = re.match(r"Attempted to load model '(.*)', but no model .* Supported model names: (.*)", said)
    return str(unknown_name("model", model[1], model[2].split(", "), place="--model")) if model else None


def extend_evaluator(module: ModuleType) -> None:
    """Lets a checkpoint's chat template travel, and finds missing data before a model is started."""
    from peft_eval.harness.evaluation import extended_evaluate, extended_simple_evaluate

    module.evaluate = extended_evaluate(module.evaluate)  # type: ignore[attr-defined]
    module.simple_evaluate = extended_simple_evaluate(module.simple_evaluate)  # type: ignore[attr-defined]


def extend_peft(module: ModuleType) -> None:
    """Lets `PeftModel.from_pretrained` load the tuners that methods bring along.

    A plugin that breaks the contract is a warning here, and an error as soon as peft-eval itself needs the methods:
    `import peft` must work for programs that have nothing to do with it.
    """
    from peft_eval.methods.tuner import register_all

    try:
        register_all()
    except PeftEvalError as error:
        warnings.warn(f"peft-eval's own adapter types are not known to peft: {error}", stacklevel=2)


def extend_models(module: ModuleType) -> None:
    """Adds the model-free baselines to `--model`."""
    from lm_eval.api.registry import model_registry

    for name, target in MODELS.items():
        if name not in model_registry:
            model_registry.register(name, target=target)


def extend_vllm(module: ModuleType) -> None:
    """Lets `--model vllm` take `peft=`."""
    _replace(module, "VLLM", "peft_eval.harness.vllm_model", "PeftVLLM", "vllm")


def extend_hf(module: ModuleType) -> None:
    """Lets `--model hf` take `peft=` without `pretrained=`."""
    _replace(module, "HFLM", "peft_eval.harness.hf_model", "PeftHFLM", "hf", "hf-auto", "huggingface")


def finish(module: ModuleType) -> None:
    """Puts our class in place once it exists, where its own import is what loaded lm-eval's module."""
    if getattr(module, _MARK, False):
        globals()[EXTENDED_MODULES[module.__name__]](module)


def _replace(module: ModuleType, theirs: str, our_module: str, our_class: str, *aliases: str) -> None:
    """Puts our subclass where lm-eval looks its class up: the module's name, and the registry's aliases.

    The registry has no public way to give an alias a subclass of its class.
    """
    from lm_eval.api.registry import model_registry

    ours = getattr(importlib.import_module(our_module), our_class, None)
    if ours is None:  # our module is being imported and needs theirs first; it calls `finish`
        return
    setattr(module, theirs, ours)
    for alias in aliases:
        model_registry._objs[alias] = ours  # type: ignore[index]


def extend_task_manager(module: ModuleType) -> None:
    """Adds every suite's folder to the tasks that lm-eval knows; a user's `--include_path` still wins."""
    from peft_eval.harness.members import find_members

    build = module.TaskManager.__init__

    @functools.wraps(build)
    def build_with_suites(
        self: Any, verbosity: Any = None, include_path: Any = None, include_defaults: bool = True, metadata: Any = None
    ) -> None:
        given = [] if not include_path else [include_path] if isinstance(include_path, str) else list(include_path)
        suites = list(plugins.suites().values()) if include_defaults else []
        build(self, verbosity, [*suites, *given] or None, include_defaults, metadata)

    module.TaskManager.__init__ = build_with_suites
    find_members(module.TaskManager)
