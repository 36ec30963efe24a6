"""The unfinished run: what an output folder holds between the first step and the checkpoint.

`OUTPUT/.training/` has `run.json` (what is trained on what), a lock, and `step-N/` folders, each a
whole trainer state that appeared by one rename. It is removed when the checkpoint is whole.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from peft_eval.checkpoint.manifest import MANIFEST_NAME, Manifest
from peft_eval.checkpoint.writing import checkpoint_files, disk_full, is_disk_full, scratch_of, whole_or_nothing
from peft_eval.errors import ConfigError, DataError
from peft_eval.whole_file import write_whole

FOLDER = ".training"
_STEP = re.compile(r"step-(\d+)")


def steps_folder(output: Path) -> Path:
    """Returns the folder that a run's checkpoints on the way are in, beside its own."""
    return output.with_name(f"{output.name}-steps")


def kept_checkpoints(output: Path) -> dict[int, Path]:
    """Returns the whole checkpoints on the way to one, by step."""
    found = {
        int(folder.name.removeprefix("step-")): folder
        for folder in steps_folder(output).glob("step-*")
        if (folder / MANIFEST_NAME).is_file() and folder.name.removeprefix("step-").isdigit()
    }
    return dict(sorted(found.items()))


class UnfinishedRun:
    """An output folder's `.training`.

    Args:
        output: the output folder; it need not exist.
    """

    def __init__(self, output: Path):
        self.output = output
        self.folder = output / FOLDER

    @property
    def exists(self) -> bool:
        """Whether a run began here and has not ended."""
        return (self.folder / "run.json").is_file()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs out of the output folder; the system frees the lock of a killed run.

        Raises:
            ConfigError: another run is writing there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                "another run is writing there", place=str(self.output), remedy="wait for it, or choose another --output"
            ) from None
        try:
            yield
        finally:
            lock.release()
            self._forget_if_empty()

    def _forget_if_empty(self) -> None:
        if self.folder.is_dir() and not self.exists:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.output.rmdir()  # only if nothing else is in it

    def begin(self, identity: dict[str, Any]) -> None:
        """Starts anew: forgets older states and notes what is trained on what.

        Raises:
            CheckpointError: the disk is full.
        """
        for path in self.folder.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        _write_json(self.folder / "run.json", identity)

    def check_same(self, identity: dict[str, Any]) -> None:
        """Checks that the run to continue is the run that began here.

        Raises:
            ConfigError: a setting, the base or the data differ; each is named with both values.
            DataError: the run's notes cannot be read.
        """
        try:
            began = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                "the unfinished run's notes cannot be read", place=str(self.folder), remedy="start anew: --overwrite"
            ) from error
        differing = differences(began, identity)
        if differing:
            raise ConfigError(
                f"the unfinished run has other settings: {'; '.join(differing)}",
                place=str(self.output),
                remedy="give the same settings to --resume, or start anew with --overwrite",
            )

    def newest(self) -> tuple[int, Path] | None:
        """Returns the newest whole state's step and folder, None if there is none."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            match = _STEP.fullmatch(path.name)
            if match and _is_whole(path):
                found.append((int(match.group(1)), path))
        return max(found, default=None)

    @contextlib.contextmanager
    def new_state(self, step: int, notes: dict[str, Any]) -> Iterator[Path]:
        """Yields a folder to write a state into; at the end it becomes the newest, and older ones go.

        Args:
            step: optimisation steps done.
            notes: what else to remember.

        Raises:
            CheckpointError: the disk is full; older states are untouched.
        """
        folder = self.folder / f"step-{step}"
        with whole_or_nothing(folder) as scratch:
            yield scratch
            sizes = {path.name: path.stat().st_size for path in scratch.iterdir()}
            _write_json(scratch / "state.json", {"step": step, "sizes": sizes, **notes})
        for path in self.folder.iterdir():
            match = _STEP.fullmatch(path.name)
            if match and int(match.group(1)) < step:
                shutil.rmtree(path)

    def scratch_of(self, step: int) -> Path:
        """Returns the folder that `new_state` yields, for the processes that do not commit it."""
        return scratch_of(self.folder / f"step-{step}")

    def notes(self, state: Path) -> dict[str, Any]:
        """Returns what `new_state` was given to remember."""
        return json.loads((state / "state.json").read_text(encoding="utf-8"))

    def end(self) -> None:
        """Removes everything of the run, once its checkpoint is whole."""
        shutil.rmtree(self.folder)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Returns `key (before, now)` for each key whose values differ."""
    return [
        f"{key} ({_short(before.get(key))} then, {_short(now.get(key))} now)"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def check_output(output: Path, *, resume: bool, overwrite: bool) -> Manifest | None:
    """Checks that a run may write to `output`.

    Returns:
        The manifest of the finished checkpoint there, where `resume` meets one.

    Raises:
        ConfigError: it is a file; it holds a checkpoint or an unfinished run and the user has not
            said what to do with it; there is nothing to resume.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError("this is a file, not a folder", place=str(output), remedy="choose another --output")
    finished = (output / MANIFEST_NAME).is_file()
    began = UnfinishedRun(output).exists
    if overwrite:
        return None
    if resume:
        if began:
            return None
        if finished:
            return Manifest.read(output)
        raise ConfigError("there is no unfinished run to resume", place=str(output), remedy="leave out --resume")
    if began:
        raise ConfigError(
            "an unfinished run is there",
            place=str(output),
            remedy="--resume continues it, --overwrite starts anew",
        )
    if finished or checkpoint_files(output):
        raise ConfigError(
            "a finished checkpoint is there" if finished else "a model from elsewhere is there",
            place=str(output),
            remedy="choose another --output, or --overwrite it",
        )
    return None


def _is_whole(state: Path) -> bool:
    try:
        sizes = json.loads((state / "state.json").read_text(encoding="utf-8"))["sizes"]
        return all((state / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write_json(path: Path, content: dict[str, Any]) -> None:
    try:
        write_whole(path, json.dumps(content, indent=1))
    except OSError as error:
        if is_disk_full(error, path.parent):
            raise disk_full(path.parent) from error
        raise


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"
