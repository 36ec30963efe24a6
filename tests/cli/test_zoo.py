"""`peft-eval zoo` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from peft_eval.checkpoint.zoo_index import ENVIRONMENT_VARIABLE, forget_lookups
from peft_eval.cli.main import cli
from tests.adapters import write_adapter


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "zoo"))
    forget_lookups()
    return tmp_path / "zoo"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import peft

    from peft_eval.resources import zoo_folder

    folder = tmp_path_factory.mktemp("adapter") / "mine"
    write_adapter(zoo_folder() / "base", folder, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    return folder


def zoo_command(*words: object) -> Result:
    return CliRunner().invoke(cli, ["zoo", *map(str, words)])


def test_add_list_search_show_remove(adapter: Path, zoo: Path) -> None:
    added = zoo_command("add", adapter, "--no-probe", "--licence", "mit", "--tag", "v1", "--summary", "a trial of mine")
    assert added.exit_code == 0 and "zoo:mine@" in added.output and "unknown: data, trainer" in added.output
    listed = json.loads(zoo_command("list", "--json").output)
    row = next(row for row in listed if row["name"] == "mine")
    assert (row["method"], row["base"], row["licence"], row["tags"]) == (
        "lora",
        "zoo:base",
        "mit",
        {"v1": row["version"]},
    )
    assert "base" in {row["name"] for row in listed}  # the shipped zoo is behind it
    table = zoo_command("list").output
    assert "mine" in table and row["version"] in table and "zoo:base" in table
    assert json.loads(zoo_command("search", "TRIAL", "lora", "--json").output) == [row]
    assert "nothing found" in zoo_command("search", "no-such-thing").output
    shown = json.loads(zoo_command("show", "mine@v1", "--json").output)
    assert shown["version"] == row["version"] and "data" in shown["about"]["unknown"]
    assert "unknown" in zoo_command("show", "mine").output
    assert zoo_command("remove", "mine@v1").output == f"removed mine@{row['version']}\n"
    assert "unknown zoo name 'mine'" in zoo_command("show", "mine").output


def test_verify_ends_with_1_if_something_is_bad(adapter: Path, zoo: Path) -> None:
    zoo_command("add", adapter, "--no-probe")
    assert zoo_command("verify", "mine").exit_code == 0
    [weights] = zoo.glob("mine/*/adapter_model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    bad = zoo_command("verify", "mine", "--json")
    assert bad.exit_code == 1 and json.loads(bad.output)[0]["state"] == "bad"


def test_push_and_pull_with_another_folder(adapter: Path, zoo: Path, tmp_path: Path) -> None:
    zoo_command("add", adapter, "--no-probe")
    other = tmp_path / "other"
    assert ": sent, " in zoo_command("push", "mine", other).output
    assert "mine" in zoo_command("list", "--zoo", other).output
    zoo_command("remove", "mine")
    pulled = zoo_command("pull", other, "mine")
    assert pulled.exit_code == 0 and ": fetched, " in pulled.output


def test_errors_are_one_line(adapter: Path) -> None:
    for words in (["add", adapter, "--name", "../x"], ["pull", "/nowhere", "x"], ["push", "no-such", "/tmp/x"]):
        result = zoo_command(*words)
        assert result.exit_code == 2 and result.output.startswith("error: ") and result.output.count("\n") == 1


@pytest.mark.parametrize("count", [1, 300], ids=["table", "lines"])
def test_a_strangers_escape_sequences_do_not_reach_the_terminal(count: int, tmp_path: Path) -> None:
    row = {"folder": "x", "kind": "adapter", "method": "lo\x1b[31mra", "licence": "\x9b2Jmit", "bytes": 1, "added": ""}
    entry = {"latest": "0" * 12, "tags": {}, "versions": {"0" * 12: row}}
    index = {"format_version": 1, "entries": {f"name{number}": entry for number in range(count)}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    table = zoo_command("list", "--zoo", tmp_path).output
    assert r"lo\x1b[31mra" in table and r"\x9b2Jmit" in table
    listed = zoo_command("list", "--zoo", tmp_path, "--json").output
    assert json.loads(listed)[0]["licence"] == "\x9b2Jmit"
    assert not set("\x1b\x9b") & set(table + listed)


def test_nor_those_of_a_checkpoint_that_is_shown_and_added(adapter: Path, zoo: Path) -> None:
    given = ("--no-probe", "--licence", "\x1b[2Jmit", "--summary", "a\x9b2J trial")
    (adapter / "le\x1bft.bin").touch()
    added = zoo_command("add", adapter, *given).output
    (adapter / "le\x1bft.bin").unlink()
    shown = zoo_command("show", "mine").output
    [card] = zoo.glob("mine/*/README.md")
    assert r"left out: le\x1bft.bin" in added and r"\x1b[2Jmit" in shown and r"a\x9b2J trial" in shown
    assert not set("\x1b\x9b") & set(added + shown + card.read_text())
