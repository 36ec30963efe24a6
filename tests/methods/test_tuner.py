"""Adapter types of our own are known to peft without being imported, and clash with nothing silently."""

import subprocess
import sys

import pytest
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from peft_eval.errors import PluginError
from peft_eval.methods import tuner as tuners
from peft_eval.methods.tuner import Tuner, all_tuners, imported, register, register_all


def named(peft_type, package="somewhere"):
    return Tuner(peft_type, f"{package}.tuner:Config", f"{package}.tuner:Model", "some_")


def test_every_tuner_is_what_it_says():
    register_all()
    for tuner in all_tuners().values():
        config, model = imported(tuner.config)(), imported(tuner.model)
        assert config.peft_type == tuner.peft_type
        assert model.prefix == tuner.prefix
        assert tuner.blocks is None or callable(imported(tuner.blocks))
        assert PEFT_TYPE_TO_CONFIG_MAPPING[tuner.peft_type]().to_dict() == config.to_dict()
        assert PEFT_TYPE_TO_TUNER_MAPPING[tuner.peft_type].prefix == tuner.prefix


def test_importing_peft_imports_none_of_them():
    program = (
        "import peft, sys; from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as known;"
        "print('BOTTLENECK' in known,"
        "[name for name in sys.modules if name.startswith('peft_eval') and name.endswith('_tuner')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[-2] == "True []"


@pytest.mark.parametrize("module", ["bottleneck_tuner", "composite_tuner", "prefix_tuner"])
def test_a_tuner_may_be_what_imports_peft(module):
    program = (
        f"import peft_eval.methods.{module}; from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING as known;"
        "print(known['BOTTLENECK'].tuner_layer_cls.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == "BottleneckLayer"


@pytest.fixture
def forgotten():
    yield "SOMEBODYS"
    for table in (PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING):
        table.pop("SOMEBODYS", None)


def test_a_type_of_two_packages_is_refused_with_both_named(forgotten):
    with pytest.raises(
        PluginError, match=r"'LORA' comes from both peft\.tuners\.lora\.config:LoraConfig and somewhere"
    ):
        register(named("LORA"))
    register(named(forgotten))
    register(named(forgotten))  # the same again is fine
    with pytest.raises(PluginError, match=r"'SOMEBODYS' comes from both somewhere\.tuner:Config and elsewhere"):
        register(named(forgotten, "elsewhere"))
    with pytest.raises(PluginError, match=r"somewhere\.tuner:Config cannot be imported"):
        PEFT_TYPE_TO_CONFIG_MAPPING[forgotten]()


def test_two_methods_with_one_type_are_refused(monkeypatch):
    class First:
        tuners = (named("SOMEBODYS"),)

    class Second:
        tuners = (named("SOMEBODYS", "elsewhere"),)

    monkeypatch.setattr("peft_eval.plugins.methods", lambda: {"first": First(), "second": Second()})
    with pytest.raises(PluginError, match=r"comes from both somewhere.*and elsewhere"):
        tuners.all_tuners()
