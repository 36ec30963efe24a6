"""The hook into lm-eval: cheap where lm-eval is not imported, complete where it is, and off on request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from peft_eval.harness import autoload, extensions


def python(code: str, **environment: str) -> str:
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_extended_module_has_its_extension() -> None:
    for name, function in autoload.EXTENDED_MODULES.items():
        assert callable(getattr(extensions, function)), name


def test_a_process_without_lm_eval_loads_one_small_module() -> None:
    loaded = python("import sys; print(sorted(name for name in sys.modules if name.startswith('peft_eval')))")
    assert loaded == "['peft_eval_autoload']"


def test_the_installed_module_is_the_one_in_the_package() -> None:
    installed = python("import peft_eval_autoload; print(peft_eval_autoload.__file__)")
    assert Path(installed).read_text() == Path(autoload.__file__).read_text(), "reinstall: pip install -e ."


def test_the_switch_turns_it_off() -> None:
    code = "import sys; print([name for name in sys.modules if name.startswith('peft_eval')])"
    assert python(code, PEFT_EVAL_AUTOLOAD="0") == "[]"


def test_lm_eval_knows_the_suites_without_a_path() -> None:
    code = "from lm_eval.tasks import TaskManager; print('superni_unseen' in TaskManager().all_tasks)"
    assert python(code) == "True"
    assert python(code, PEFT_EVAL_AUTOLOAD="0") == "False"


def test_defaults_switched_off_stay_off() -> None:
    code = "from lm_eval.tasks import TaskManager; print(len(TaskManager(include_defaults=False).all_tasks))"
    assert python(code) == "0"


def test_lm_eval_knows_the_models() -> None:
    code = (
        "import lm_eval.models; from lm_eval.api.registry import get_model;"
        "print(get_model('hf').__name__, get_model('copy-input').__name__)"
    )
    assert python(code) == "PeftHFLM CopyInput"


def test_a_module_imported_before_is_extended_once() -> None:
    code = (
        "import lm_eval.tasks.manager as manager; from peft_eval.harness.extensions import extend;"
        "before = manager.TaskManager.__init__; extend(manager); print(before is manager.TaskManager.__init__)"
    )
    assert python(code) == "True"


def test_without_the_hook_all_is_extended_on_demand() -> None:
    code = (
        "from peft_eval.harness.extensions import extend_all; extend_all();"
        "from lm_eval.api.registry import get_model; from lm_eval.tasks import TaskManager;"
        "print(get_model('hf').__name__, 'superni_unseen' in TaskManager().all_tasks)"
    )
    assert python(code, PEFT_EVAL_AUTOLOAD="0") == "PeftHFLM True"


def test_the_cpu_build_answers_for_vllm() -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    version = python("from importlib.metadata import version; print(version('vllm'))")
    assert version[0].isdigit()
    assert python("from importlib.metadata import distribution; print(distribution('vllm').metadata['Name'])") == "vllm"


@pytest.mark.parametrize("first", ["lm_eval.models.huggingface", "peft_eval.harness.hf_model"])
def test_either_module_may_be_imported_first(first: str) -> None:
    code = (
        f"import {first}; import lm_eval.models.huggingface as theirs;"
        "from peft_eval.harness.hf_model import PeftHFLM; from lm_eval.api.registry import get_model;"
        "print(theirs.HFLM is PeftHFLM, get_model('hf') is PeftHFLM)"
    )
    assert python(code) == "True True"


def test_our_class_alone_changes_nothing_of_lm_eval() -> None:
    code = (
        "from peft_eval.harness.hf_model import PeftHFLM; import lm_eval.models.huggingface as theirs;"
        "print(theirs.HFLM is PeftHFLM)"
    )
    assert python(code, PEFT_EVAL_AUTOLOAD="0") == "False"
