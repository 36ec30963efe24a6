"""doctor: every bad finding has its remedy, and the exit code tells whether there is one."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import peft
import pytest
from click.testing import CliRunner, Result

from peft_eval.cli.main import cli
from peft_eval.doctor import environment
from peft_eval.doctor.check import Check
from peft_eval.doctor.checkpoint import checkpoint_checks
from peft_eval.torch_companions import hide_unloadable, unloadable
from tests.adapters import write_adapter
from tests.tiny import tiny_llama


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["doctor", *arguments])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    write_adapter(base, tmp_path / "adapter", peft.LoraConfig(r=4, target_modules=["q_proj"]))
    return tmp_path / "adapter"


def by_name(checks: Any) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_this_environment_is_whole():
    result = ran("--json")
    found = {check["name"]: check for check in json.loads(result.stdout)}
    assert {"Python", "torch", "transformers", "peft", "lm-eval", "torchvision", "import hook", "suites"} <= set(found)
    bad = {name for name, check in found.items() if check["state"] == "bad"}
    assert bad <= {"machine", "disk"}  # a busy machine is no fault of the environment
    assert result.exit_code == (1 if bad else 0)
    assert "peft-eval suites" in found["suites"]["found"]


def test_a_screen_has_a_line_a_check():
    result = ran()
    checks = json.loads(ran("--json").stdout)
    lines = result.stdout.splitlines()
    assert len(lines) == len(checks) + 2
    assert lines[-1].endswith(" to repair")


def test_the_ranges_are_the_packages_own():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    ranges = environment.supported_ranges()
    for name in (*environment.LIBRARIES, *environment.VLLM_BUILDS):
        lowest = next(str(one.version) for one in ranges[name].specifier if one.operator == ">=")
        assert f'"{name}>={lowest},' in text


@pytest.mark.parametrize("name", environment.LIBRARIES)
def test_a_version_out_of_range_is_bad_and_told_how_to_repair(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(environment, "version", lambda _: "0.0.1")
    check = by_name(environment.library_checks())[name]
    assert check.state == "bad" and check.found.startswith("0.0.1, supported is ")
    assert check.remedy and check.remedy.startswith(f"pip install '{name}")


def test_a_missing_vllm_names_both_extras(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(environment, "version", absent)
    check = environment.vllm_check()
    assert check.state == "bad" and "peft-eval[vllm]" in str(check.remedy) and "peft-eval[cpu]" in str(check.remedy)


def test_a_bad_line_ends_with_its_remedy_and_gives_exit_code_1(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "LEAST_FREE_GIB", 1e9)
    result = ran()
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("BAD")]
    assert line.endswith("-> free some space")
    assert result.stdout.endswith("1 line to repair\n")


def test_no_finding_is_bad_without_a_remedy():
    with pytest.raises(ValueError, match="remedy"):
        Check("disk", "bad", "full")


def test_the_hook_switched_off_is_a_note(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PEFT_EVAL_AUTOLOAD", "0")
    check = environment.autoload_check()
    assert check.state == "note" and check.remedy == "unset PEFT_EVAL_AUTOLOAD, or use peft-eval eval"


def test_a_missing_hook_is_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert environment.autoload_check().state == "bad"


def test_superni_is_found_where_it_is_named(monkeypatch: pytest.MonkeyPatch, tiny_superni: Any):
    tiny_superni.add("task001_a")
    monkeypatch.setenv("PEFT_EVAL_SUPERNI", str(tiny_superni.folder))
    check = environment.superni_check()
    assert (check.state, check.found) == ("ok", f"1 task files in {tiny_superni.folder}")


def test_an_adapter_is_active_and_its_merge_measured(adapter: Path, base: Path):
    found = by_name(checkpoint_checks(str(adapter)))
    assert found["base"].found.startswith(str(base))
    assert found["adapter"].state == "ok" and "active" in found["adapter"].found
    assert float(found["merge distance"].found.split()[1].rstrip(",")) < 1e-4
    assert found["manifest"].state == "note"


def test_a_whole_model_needs_no_base(base: Path):
    found = by_name(checkpoint_checks(str(base)))
    assert found["base"].found == "none needed: full weights"
    assert "adapter" not in found


def test_an_adapter_that_changes_nothing_is_bad(base: Path, tmp_path: Path):
    write_adapter(base, tmp_path, peft.LoraConfig(target_modules=["q_proj"]), scale=0)
    result = ran(str(tmp_path))
    assert result.exit_code == 1
    assert "the adapter changes nothing" in result.stdout


def test_a_base_that_is_gone_is_bad(adapter: Path):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/gone"}))
    result = ran(str(adapter))
    assert result.exit_code == 1
    assert any(line.startswith("BAD  base") and "-> " in line for line in result.stdout.splitlines())


def test_another_base_can_be_named(adapter: Path, base: Path):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/gone"}))
    assert ran(str(adapter), "--base", str(base)).exit_code == 0


@pytest.mark.parametrize("reference", ["nothing/of/the/kind", "./absent"])
def test_a_missing_checkpoint_is_bad(reference: str):
    result = ran(reference)
    assert result.exit_code == 1
    assert any(line.startswith("BAD  checkpoint") for line in result.stdout.splitlines())


def versions_in(folder: Path, **versions: str) -> list[str]:
    """Writes packages whose version.py states a version, and returns a search path with them."""
    for name, version in versions.items():
        (folder / name).mkdir()
        (folder / name / "version.py").write_text(f"from typing import Any\n\n__version__ = '{version}'\ncuda = None\n")
    return [str(folder / "elsewhere"), str(folder)]


def test_a_cuda_build_beside_a_cpu_torch_cannot_load(tmp_path: Path):
    path = versions_in(tmp_path, torch="2.13.0+cpu", torchvision="0.28.0+cu130", torchaudio="2.11.0+cpu")
    assert unloadable(path) == {"torchvision": "0.28.0+cu130"}


@pytest.mark.parametrize("torch", ["2.13.0", "2.13.0+cu130"])
def test_beside_another_torch_all_are_left_alone(tmp_path: Path, torch: str):
    assert unloadable(versions_in(tmp_path, torch=torch, torchvision="0.28.0+cu130")) == {}


def test_what_cannot_load_looks_as_if_it_were_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import importlib.util
    import sys

    path = versions_in(tmp_path, torch="2.13.0+cpu", torchcodec="0.17.0+cu130")
    (tmp_path / "torchcodec" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torchcodec", raising=False)
    assert importlib.util.find_spec("torchcodec") is not None
    try:
        assert hide_unloadable(path) == ["torchcodec"]
        assert importlib.util.find_spec("torchcodec") is None
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("torchcodec")
    finally:
        sys.modules.pop("torchcodec", None)
