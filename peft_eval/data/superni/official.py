"""Where the official Super-NaturalInstructions files are, and how to tell that they are those."""

from __future__ import annotations

from pathlib import Path

from peft_eval.data.fetch import ArchiveSpec
from peft_eval.data.superni.reader import split_list, task_file
from peft_eval.data.superni.tracks import official_test_tasks
from peft_eval.errors import DataError, raise_all

_COMMIT = "e0fd31052b21acea5bd95fb00253e1ee1f5d8259"

_REPOSITORY = "https://github.com/allenai/natural-instructions"

# No hash of the archive's bytes is pinned: its files are held against those that git lists for the commit.
OFFICIAL_ARCHIVE = ArchiveSpec(
    url=f"{_REPOSITORY}/archive/{_COMMIT}.tar.gz",
    commit=_COMMIT,
    sha256=None,
    folders=("tasks", "splits"),
    repository=f"{_REPOSITORY}.git",
)


def check_official(folder: Path) -> None:
    """Checks that a folder has the official test lists and a file for each of their tasks.

    Raises:
        DataError: a list is another one, or files are missing.
    """
    errors = []
    for track in ("default", "xlingual"):
        official = {name for names in official_test_tasks(track).values() for name in names}
        place = f"splits/{track}/test_tasks.txt"
        listed = set(split_list(folder, track, "test"))
        if listed != official:
            errors.append(
                DataError(
                    f"the list has {len(listed)} tasks, {len(listed & official)} of them among the "
                    f"{len(official)} official ones",
                    place=place,
                    remedy="this is another version of the data: fetch the pinned commit",
                )
            )
        missing = sorted(name for name in official if task_file(folder, name) is None)
        if missing:
            errors.append(DataError(f"{len(missing)} of its tasks have no file, e.g. {missing[0]}", place=place))
    split_list(folder, "default", "train")
    raise_all(errors)
