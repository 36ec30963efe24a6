"""Nobody finds half a file: what was there stays until the new one is whole, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from peft_eval import whole_file
from peft_eval.checkpoint.manifest import OverlapRecord
from peft_eval.cli.main import cli
from peft_eval.whole_file import write_whole


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full when a file is flushed."""

    def refuses(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole_file.os, "fsync", refuses)


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for text in ("one", "two, é"):
        write_whole(tmp_path / "file.json", text)
        assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("file.json", text)]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, full: None) -> None:
    (tmp_path / "file.json").write_text("one")
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file.json", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file.json", "one")]


def test_overlap_writes_its_output_whole(tmp_path: Path, full: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*_: Any) -> dict[str, OverlapRecord]:
        return {"task": OverlapRecord(questions=3, ngram=8, threshold=0.5, overlapping=["a"])}

    monkeypatch.setattr("peft_eval.harness.overlap.overlap_of", found)
    output = tmp_path / "overlap.json"
    output.write_text("{}\n")
    command = ["overlap", "--data", "mini", "--tasks", "1", "--suites", "task", "--output", str(output)]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2 and "no space left on the device" in result.output
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("overlap.json", "{}\n")]
