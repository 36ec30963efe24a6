"""The frame: lazy subcommands, errors as one line, exit codes."""

from __future__ import annotations

import errno
import importlib
import json
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner, Result

import peft_eval
from peft_eval.cli import main
from peft_eval.errors import CheckpointError, ConfigError, ManyErrors

HEAVY = {"torch", "transformers", "vllm", "lm_eval", "peft", "datasets", "accelerate"}


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(main.cli, arguments)


def modules_after(*arguments: str) -> set[str]:
    """Returns the top-level modules that a whole process of the command has imported."""
    program = (
        "import sys, json, contextlib, io\n"
        "from peft_eval.cli.main import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main()\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules} | set(sys.modules))))"
    )
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", main.COMMANDS)
def test_a_summary_is_the_first_line_of_its_commands_help(name: str):
    command = importlib.import_module(f"peft_eval.cli.{name}").command
    assert command.help.strip().splitlines()[0] == main.COMMANDS[name]


def commands(group: click.Group, path: str = "peft-eval") -> dict[str, click.Command]:
    """Returns every command and subcommand by its full name."""
    found = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        found |= (
            commands(command, f"{path} {name}") if isinstance(command, click.Group) else {f"{path} {name}": command}
        )
    return found


@pytest.mark.parametrize(("path", "command"), commands(main.cli).items(), ids=str)
def test_every_help_has_a_worked_example(path: str, command: click.Command):
    assert re.search(rf"{re.escape(path)}\s", (command.help or "") + (command.epilog or ""))


def test_help_lists_every_command_and_imports_none():
    assert all(f"  {name}" in ran("--help").stdout for name in main.COMMANDS)
    imported = modules_after("--help")
    assert not imported & (HEAVY | {"pydantic", "rich"})
    assert not imported & {f"peft_eval.cli.{name}" for name in main.COMMANDS}


@pytest.mark.parametrize(
    "arguments",
    [("methods",), ("methods", "--json"), ("suites",), ("suites", "--json"), ("suites", "superni", "--json")],
)
def test_listing_is_light(arguments: tuple[str, ...]):
    assert not modules_after(*arguments) & HEAVY


@pytest.mark.parametrize("name", main.COMMANDS)
def test_a_subcommands_help_is_light(name: str):
    assert not modules_after(name, "--help") & HEAVY


def test_version():
    assert ran("--version").stdout.strip() == f"peft-eval, version {peft_eval.__version__}"


def test_methods_as_json_have_typed_options_with_defaults():
    methods = {method["name"]: method for method in json.loads(ran("methods", "--json").stdout)}
    assert methods["lora"]["kind"] == "adapter" and methods["full"]["kind"] == "full"
    options = {option["name"]: option for option in methods["lora"]["options"]}
    assert options["rank"]["type"] == "integer" and options["rank"]["default"] == 64
    assert all(option["description"] for option in options.values())


def test_methods_as_a_table_name_every_method():
    shown = ran("methods").stdout
    assert all(method["name"] in shown for method in json.loads(ran("methods", "--json").stdout))


@pytest.mark.parametrize("name", ["lora", "compacter", "mam", "full"])
def test_one_methods_page_names_every_option(name: str):
    shown = ran("methods", name).stdout
    (method,) = (one for one in json.loads(ran("methods", "--json").stdout) if one["name"] == name)
    assert all(option["name"] in shown for option in method["options"])


def test_an_unknown_methods_page_lists_near_matches():
    result = ran("methods", "verra")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: NAME: unknown method 'verra' (did you mean vera")


def test_an_unknown_command_lists_near_matches():
    result = ran("trian")
    assert result.exit_code == 2
    assert result.stderr == "error: peft-eval: unknown command 'trian' (did you mean train?)\n"


@pytest.mark.parametrize(
    "arguments",
    [("--colour",), ("suites", "--jsno"), ("methods", "lora", "extra"), ("doctor", "--base", "b"), ("data", "gte")],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: tuple[str, ...]):
    result = ran(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: peft-eval") and result.stderr.count("\n") == 1


def test_no_command_prints_help_to_stderr():
    result = ran()
    assert result.exit_code == 2 and "Commands:" in result.stderr and not result.stdout


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch):
    """Makes `peft-eval methods` raise what it is given."""

    def arrange(error: BaseException) -> Result:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr("peft_eval.cli.methods.command", command)
        return ran("methods")

    return arrange


def test_a_users_error_is_its_line(raising):
    result = raising(ConfigError("unknown key 'rnak'", place="a.toml", remedy="did you mean rank?"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: a.toml: unknown key 'rnak' (did you mean rank?)\n"


def test_many_errors_are_a_line_each(raising):
    result = raising(ManyErrors([ConfigError("one"), CheckpointError("two")]))
    assert (result.exit_code, result.stderr) == (2, "error: one\nerror: two\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line(raising, number: int):
    result = raising(OSError(number, "full", "/runs/model.safetensors"))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: /runs/model.safetensors: no space left") and result.stderr.count("\n") == 1


def test_a_full_disk_behind_another_librarys_error_is_one_line(raising):
    error = RuntimeError("could not serialize")
    error.__cause__ = RuntimeError("I/O error: No space left on device (os error 28)")
    assert raising(error).stderr.startswith("error: no space left")


def test_a_refused_permission_is_one_line(raising):
    result = raising(PermissionError(errno.EACCES, "Permission denied", "/sealed"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: /sealed: permission denied")


def test_an_interrupt_is_quiet(raising):
    result = raising(KeyboardInterrupt())
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (130, "", "")


def test_a_bug_keeps_its_traceback(raising):
    result = raising(ValueError("a bug"))
    assert isinstance(result.exception, ValueError)


def test_a_check_that_failed_gives_its_exit_code(raising):
    assert raising(click.exceptions.Exit(1)).exit_code == 1
