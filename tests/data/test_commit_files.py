"""What a commit holds is told by its id alone, from a repository that git really fetches."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from peft_eval.data.commit_files import blob_id, check_files, files_of_commit
from peft_eval.errors import DataError


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    done = subprocess.run(["git", *identity, "-C", folder, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> tuple[str, str, Path]:
    """Returns address, commit id and work tree of a repository that serves any commit, as the big hosts do."""
    folder = tmp_path / "upstream"
    (folder / "tasks").mkdir(parents=True)
    (folder / "splits" / "default").mkdir(parents=True)
    (folder / "tasks" / "task1.json").write_bytes(b'{"a": "\xc3\xa9"}\r\n')
    (folder / "tasks" / "with space.json").write_text("{}")
    (folder / "splits" / "default" / "test_tasks.txt").write_text("task1\n")
    (folder / "README.md").write_text("not wanted")
    git(folder, "init", "--quiet")
    git(folder, "config", "uploadpack.allowFilter", "true")
    git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(folder, "config", "core.autocrlf", "false")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "one")
    commit = git(folder, "rev-parse", "HEAD")
    (folder / "tasks" / "task1.json").write_text("a later commit")
    git(folder, "commit", "--quiet", "-am", "two")
    git(folder, "checkout", "--quiet", commit)
    return folder.as_uri(), commit, folder


def test_the_files_of_a_pinned_commit(repository: tuple[str, str, Path]):
    address, commit, folder = repository
    files = files_of_commit(address, commit, ["tasks", "splits"])
    assert set(files) == {"tasks/task1.json", "tasks/with space.json", "splits/default/test_tasks.txt"}
    assert all(blob_id(folder / path) == git(folder, "hash-object", path) == blob for path, blob in files.items())


def test_every_kind_of_difference_is_named(repository: tuple[str, str, Path], tmp_path: Path):
    address, commit, folder = repository
    files = files_of_commit(address, commit, ["tasks", "splits"])
    copy = tmp_path / "copy"
    for name in ("tasks", "splits"):
        shutil.copytree(folder / name, copy / name)
    check_files(copy, files, "an archive")
    (copy / "tasks" / "task1.json").write_text("{}")
    (copy / "tasks" / "with space.json").unlink()
    (copy / "tasks" / "extra.json").write_text("{}")
    with pytest.raises(DataError) as caught:
        check_files(copy, files, "an archive")
    for part in ("an archive", "1 missing (tasks/with space.json)", "1 not of", "extra.json", "1 changed (tasks/task1"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("commit", "folders", "said"),
    [("0" * 40, ["tasks"], "git fetch failed"), (None, ["tasks", "nothing"], "has no folder nothing/")],
)
def test_a_commit_or_folder_that_is_not_there(repository: tuple[str, str, Path], commit, folders, said: str):
    address, real, _ = repository
    with pytest.raises(DataError, match=said):
        files_of_commit(address, commit or real, folders)


def test_without_git(repository: tuple[str, str, Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="install git"):
        files_of_commit(repository[0], repository[1], ["tasks"])
