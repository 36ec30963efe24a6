"""Documents that cannot rot: what they name exists, and what exists is named."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path

import click
import pytest

from peft_eval import plugins
from peft_eval.cli.main import COMMANDS, cli
from peft_eval.harness.suites import read_suites

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
# Options of other programs that the documents use.
LM_EVAL = {
    "--model",
    "--tasks",
    "--model_args",
    "--metadata",
    "--output_path",
    "--log_samples",
    "--predict_only",
    "--limit",
    "--batch_size",
    "--apply_chat_template",
    "--gen_kwargs",
    "--confirm_run_unsafe_code",
}
LM_EVAL |= {"--include_path"}


def script(name: str) -> types.ModuleType:
    """Imports a file of scripts/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


REFERENCE = script("write_cli_reference")


def options_of(command: click.Command) -> set[str]:
    """Returns a command's long options."""
    own = {name for one in command.params if isinstance(one, click.Option) for name in [*one.opts, *one.secondary_opts]}
    return {name for name in own if name.startswith("--")} | {"--help"}


def all_options() -> dict[str, set[str]]:
    """Returns the options of every command by its full name."""
    return {path: options_of(command) for path, command in REFERENCE.commands(cli, "peft-eval")}


def options_of_scripts() -> set[str]:
    """Returns the options that the scripts' parsers take."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py"))
    return set(re.findall(r"""add_argument\(\s*["'](--[\w-]+)["']""", text))


def lines_of(page: Path) -> list[str]:
    """Returns a page's lines, those that a backslash continues joined."""
    return page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()


def test_the_reference_is_fresh():
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == REFERENCE.reference(), "run python scripts/write_cli_reference.py"


@pytest.mark.parametrize(("path", "options"), all_options().items(), ids=str)
def test_every_option_is_in_its_section_of_the_reference(path: str, options: set[str]):
    section = re.search(
        rf"^## {re.escape(path)}\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "cli.md").read_text(), re.M | re.S
    )
    assert section
    assert options - {"--help"} <= set(re.findall(r"`(--[\w-]+)`", section[1]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_named_exists(page: Path):
    known = set.union(LM_EVAL, options_of_scripts(), *all_options().values())
    named = {found for line in lines_of(page) for found in re.findall(r"(?<![\w-])--[a-z][\w-]*", line)}
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_shown_takes_its_options(page: Path):
    options = all_options()
    for line in lines_of(page):
        for call in re.findall(r"^\s*(peft-eval [^`#|]+)", line):
            path = max((known for known in options if f"{call} ".startswith(f"{known} ")), key=len, default="")
            assert path != "peft-eval" or not re.match(r"peft-eval [a-z]", call), f"{page.name}: {call}"
            passed_on = LM_EVAL if path == "peft-eval eval" else set()
            assert set(re.findall(r"--[a-z][\w-]*", call)) <= options[path] | passed_on, f"{page.name}: {call}"


def test_the_readme_shows_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"peft-eval {name}" in text for name in COMMANDS)


def groups() -> set[str]:
    """Returns the built-in suites' names."""
    return {suite.name for suite in read_suites(plugins.suites())}


def single_tasks() -> set[str]:
    """Returns the names of tasks that are a file of their own."""
    files = [path.read_text(encoding="utf-8") for path in (ROOT / "tasks").rglob("*.yaml")]
    return {name for text in files for name in re.findall(r"^task: (\w+)$", text, re.M)}


def test_every_suite_is_described():
    text = (ROOT / "docs" / "evaluating.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in groups())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_suite_named_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    named = {name for names in re.findall(r"--tasks ([\w,]+)", text) for name in names.split(",") if name.islower()}
    named |= set(re.findall(r"`((?:superni|mini)_[a-z]\w*)`", text)) - {"superni_partial"}
    assert named <= groups() | single_tasks()


@pytest.mark.parametrize("suite", sorted(plugins.suites()))
def test_every_group_says_what_it_measures_and_needs(suite: str):
    found = read_suites({suite: plugins.suites()[suite]})
    assert found
    assert all("unknown" not in (one.measures, one.data) and one.tasks > 0 for one in found)


def test_every_folder_is_in_the_readmes_tree():
    tree = re.search(
        r"^## What is where\n+```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    assert tree
    shown = set(re.findall(r"^ *([\w]+)/", tree[1], re.M))
    rooms = {folder.parent.name for folder in (ROOT / "peft_eval").glob("*/__init__.py")}
    assert shown == rooms | {"peft_eval", "tasks", "adapters_zoo", "studies", "scripts", "docs", "tests"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_linked_or_named_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    linked = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert all((page.parent / target).exists() for target in linked)
    named = re.findall(r"`((?:scripts|tests|docs|peft_eval|tasks)/[\w./*]+)`", text)
    assert all(list(ROOT.glob(name.replace("NAME", "*").rstrip("/"))) for name in named)


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.M))
    assert {"demo", "test"} <= named <= targets
