"""Plugins: built-ins and a stranger's installed package come in through the same hooks; a bad one is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pluggy
import pytest

from peft_eval import hookspecs, plugins
from peft_eval.errors import ConfigError, PluginError
from tests.tiny import tiny_llama

EXAMPLE = Path(__file__).parent / "example_plugin"


@pytest.fixture(scope="session")
def with_example(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of a process that has the example plugin installed."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(EXAMPLE)], check=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def listed(command: str, environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Returns what `peft-eval COMMAND --json` lists, by name."""
    call = [sys.executable, "-m", "peft_eval.cli.main", command, "--json"]
    ran = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    return {one["name"]: one for one in json.loads(ran.stdout)}


def test_a_strangers_method_stands_beside_ours(with_example: dict[str, str]):
    methods = listed("methods", with_example)
    assert {"lora", "full", "output-scale"} <= set(methods)
    assert methods["output-scale"]["options"][0]["name"] == "targets"


def test_a_strangers_method_is_trained_saved_loaded_merged_and_evaluated(with_example: dict[str, str], tmp_path: Path):
    """Its tuner is found through the import hook wherever peft is imported, also within lm-eval's own command."""
    base, output = tiny_llama(tmp_path / "base"), tmp_path / "run"
    settings = ["--base", str(base), "--data", "echo:alpha,beta", "--max-steps", "2", "--output", str(output)]
    train = [sys.executable, "-m", "peft_eval.cli.main", "train", "--method", "output-scale", *settings]
    subprocess.run(train, env=with_example, capture_output=True, check=True)
    ran = subprocess.run(
        [sys.executable, "-c", LOAD_AND_MERGE, str(base), str(output)],
        env=with_example,
        capture_output=True,
        text=True,
        check=True,
    )
    change, distance = (float(number) for number in ran.stdout.split()[-2:])
    assert change > 1e-4
    assert distance < 1e-5
    evaluate = ["lm_eval", "--model", "hf", "--tasks", "example_echo", "--output_path", str(tmp_path / "results")]
    evaluate[0] = str(Path(sys.executable).with_name("lm_eval"))
    subprocess.run([*evaluate, "--model_args", f"peft={output}"], env=with_example, capture_output=True, check=True)
    (found,) = (tmp_path / "results").rglob("results_*.json")
    record = json.loads(found.read_text())["config"]["peft_eval"]
    assert record["route"] == "hf"


LOAD_AND_MERGE = """
import sys
from pathlib import Path
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter = sys.argv[1:]
ids = torch.tensor([[5, 9, 70, 81]])
plain = AutoModelForCausalLM.from_pretrained(base)
before = plain(ids).logits
after = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)(ids).logits
from peft_eval.merging.merger import AdapterMerger
merged = AdapterMerger(Path(adapter), Path(base)).merged(plain.state_dict().items())
plain.load_state_dict(dict(merged), strict=False)
print((after - before).abs().max().item(), (plain(ids).logits - after).abs().max().item())
"""


def test_a_strangers_suite_stands_beside_ours(with_example: dict[str, str]):
    suites = listed("suites", with_example)
    assert {"mini_unseen", "superni_unseen", "example_echo"} <= set(suites)
    assert suites["example_echo"] == {
        "name": "example_echo",
        "folder": "example_echo",
        "tasks": 1,
        "measures": "whether a model repeats a word",
        "data": "none",
    }


def test_a_strangers_data_can_be_shown(with_example: dict[str, str]):
    call = [sys.executable, "-m", "peft_eval.cli.main", "data", "show", "echo:alpha,beta"]
    ran = subprocess.run(call, env=with_example, capture_output=True, text=True, check=True)
    assert "alpha" in ran.stdout


def test_lm_eval_knows_a_strangers_suite(with_example: dict[str, str]):
    program = (
        "from lm_eval.tasks import TaskManager; print('example_echo' in TaskManager(verbosity='ERROR').all_groups)"
    )
    ran = subprocess.run([sys.executable, "-c", program], env=with_example, capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == "True"


def test_built_ins_come_through_the_hooks():
    assert {"lora", "full"} <= set(plugins.methods())
    assert {"superni", "mini"} <= set(plugins.datasets())
    assert {"superni", "mini"} <= set(plugins.suites())


def plugin_of(name: str, **hooks: Any) -> types.ModuleType:
    """Returns a module with hooks, as a package would announce it."""
    module = types.ModuleType(name)
    for hook, function in hooks.items():
        setattr(module, hook, hookspecs.hookimpl(function))
    return module


@pytest.fixture
def own_manager(monkeypatch: pytest.MonkeyPatch) -> pluggy.PluginManager:
    """A manager without plugins, in place of the real one."""
    manager = pluggy.PluginManager("peft_eval")
    manager.add_hookspecs(hookspecs)
    monkeypatch.setattr(plugins, "manager", lambda: manager)
    return manager


def test_a_name_given_twice_is_refused_with_both_named(own_manager: pluggy.PluginManager):
    own_manager.register(plugin_of("first", peft_eval_suites=lambda: [Path("/a/words")]))
    own_manager.register(plugin_of("second", peft_eval_suites=lambda: [Path("/b/words")]))
    with pytest.raises(PluginError, match=r"'words' comes from both .*(first and second|second and first)"):
        plugins.suites()


def test_no_plugins_is_no_suites(own_manager: pluggy.PluginManager):
    assert plugins.suites() == {}


class _EntryPoint:
    """An entry point that gives a module, or fails to import."""

    group = plugins.ENTRY_POINT_GROUP
    name = "bad"

    def __init__(self, outcome: types.ModuleType | ImportError):
        self.outcome = outcome

    def load(self) -> types.ModuleType:
        if isinstance(self.outcome, ImportError):
            raise self.outcome
        return self.outcome


class _Distribution:
    metadata = {"name": "bad-plugin", "Name": "bad-plugin"}
    version = "0"

    def __init__(self, entry_point: _EntryPoint):
        self.entry_points = [entry_point]


@pytest.mark.parametrize(
    ("outcome", "named"),
    [
        (ImportError("No module named 'nothing'"), "nothing"),
        (plugin_of("misspelt", peft_eval_method=lambda: []), "peft_eval_method"),
        (plugin_of("wrong_signature", peft_eval_methods=lambda colour: []), "colour"),
    ],
)
def test_a_bad_plugin_is_refused(monkeypatch: pytest.MonkeyPatch, outcome: Any, named: str):
    monkeypatch.setattr("importlib.metadata.distributions", lambda: [_Distribution(_EntryPoint(outcome))])
    with pytest.raises(PluginError, match=named):
        plugins.manager.__wrapped__()


def test_picking_lists_near_matches():
    with pytest.raises(ConfigError, match=r"unknown method 'lroa' .did you mean lora"):
        plugins.pick("method", "lroa", {"lora": 1, "full": 2})


def test_plugins_have_versions_for_the_results():
    assert any(one.startswith("peft-eval ") for one in plugins.plugin_versions())
