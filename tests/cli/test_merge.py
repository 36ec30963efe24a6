"""`peft-eval merge` as a user types it."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
from click.testing import CliRunner

from peft_eval.cli.main import cli
from peft_eval.cli.merge import Size, command
from tests.adapters import write_adapter
from tests.tiny import tiny_llama


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merge")
    base = tiny_llama(folder / "base")
    write_adapter(base, folder / "adapter", peft.LoraConfig(r=4, target_modules=["q_proj"]))
    return folder / "adapter"


def test_it_says_what_came_out_and_how_it_was_proven(adapter: Path, tmp_path: Path) -> None:
    arguments = [str(adapter), "--output", str(tmp_path / "out"), "--dtype", "bfloat16", "--shard-size", "150KB"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "merged: 2 files, 0.2 MB" in result.output and "proof: 2 of 20 tensors changed; loaded" in result.output


def test_pushed_when_it_is_done(adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(
        "peft_eval.merging.upload.push_folder", lambda *given, **more: sent.append((given, more)) or "http://hub/commit"
    )
    arguments = [str(adapter), "--output", str(tmp_path / "out"), "--push", "me/model", "--private"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert sent == [((tmp_path / "out", "me/model"), {"private": True})]
    assert "uploaded: http://hub/commit" in result.output


@pytest.mark.parametrize(("text", "count"), [("5GB", 5 * 10**9), ("1.5 mb", 1_500_000), ("300", 300)])
def test_sizes(text: str, count: int) -> None:
    assert Size().convert(text, None, None) == count


@pytest.mark.parametrize("text", ["5G", "many", "0", "-1MB"])
def test_sizes_that_are_none(adapter: Path, text: str) -> None:
    result = CliRunner().invoke(cli, ["merge", str(adapter), "--output", "out", "--shard-size", text])
    assert result.exit_code == 2 and "is not a size: write it as 5GB or 500MB" in result.output


def test_a_folder_that_cannot_be_written(adapter: Path) -> None:
    result = CliRunner().invoke(cli, ["merge", str(adapter), "--output", "/sys/merged"])
    assert result.exit_code == 2 and result.output.startswith("error: ") and result.output.count("\n") == 1
    assert "change its permissions, or choose another folder" in result.output
