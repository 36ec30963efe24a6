"""Runs cells on a Ray cluster: where a cell runs is Ray's business, what a cell is and how it ends is `LocalRunner`'s.

Each cell is one Ray task that runs a `LocalRunner` of one cell, so that states, logs, locks and limits are the same as
on one machine. A task whose node dies is begun again on another; what it had saved is there if the store is on shared
storage. Without shared storage, `storage` names an fsspec URL that the nodes write to and this process reads from.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peft_eval.checkpoint.manifest import MANIFEST_NAME
from peft_eval.errors import ConfigError
from peft_eval.study.local import READY, LocalRunner, Task, execute, train_cell
from peft_eval.study.store import CellFolder, State

_LOOK_AGAIN_SECONDS = 1.0
_HOST_AND_PORT = re.compile(r"\[?([^/]+?)\]?:(\d+)")
_FILES = ("cell.json", "state.json", "log.txt")


@dataclass(frozen=True)
class Resources:
    """What a cell asks of a node.

    Attributes:
        cpus: cores, its threads too.
        gpus: GPUs, as 0.5 for two cells on one; None for one where the cluster has any.
        memory_gib: of main memory; None asks for none.
        retries: how often a cell is begun again when its node died.
    """

    cpus: float = 1.0
    gpus: float | None = None
    memory_gib: float | None = None
    retries: int = 3


class RayRunner:
    """Runs cells on a Ray cluster.

    Args:
        address: of the cluster, as `ray.init` takes it; `local` starts one on this machine.
        resources: what each cell asks for.
        minutes: a cell that takes longer is ended; None for no limit.
        task: what a cell's process does with its settings.
        preload: modules that the processes find imported.
        storage: fsspec URL of a folder for results where the nodes do not share the store's file system.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
    """

    def __init__(
        self,
        address: str,
        *,
        resources: Resources = Resources(),
        minutes: float | None = None,
        task: Task = train_cell,
        preload: Sequence[str] = READY,
        storage: str | None = None,
    ):
        self.ray = _connect(address)
        self.resources = resources
        self.minutes = minutes
        self.task = task
        self.preload = tuple(preload)
        self.storage = storage.rstrip("/") if storage else None
        gpus = resources.gpus
        self.gpus = gpus if gpus is not None else float(self.ray.cluster_resources().get("GPU", 0) > 0)

    def run(self, folders: Sequence[CellFolder], changed: Callable[[CellFolder, State], None]) -> None:
        """Runs what is not done.

        Args:
            folders: the cells.
            changed: is told of every new state that is seen.
        """
        with _held(folders if self.storage else []) as mine:
            left = [folder for folder in (mine if self.storage else folders) if folder.state().status != "done"]
            remote = self.ray.remote(_run_cell_away if self.storage else _run_cell).options(**self._options())
            how = (self.task, self.minutes, max(1, int(self.resources.cpus)), self.preload)
            where = [self.storage or str(folder.folder.parent.absolute()) for folder in left]
            running = {
                remote.remote(place, folder.cell, *how): folder for place, folder in zip(where, left, strict=True)
            }
            seen: dict[str, str] = {}
            try:
                while running:
                    ended, _ = self.ray.wait(list(running), timeout=_LOOK_AGAIN_SECONDS)
                    for reference in ended:
                        folder = running.pop(reference)
                        self._end(folder, reference)
                        changed(folder, folder.state())
                    _tell_of_new(running.values(), seen, changed)
            finally:
                for reference in running:
                    self.ray.cancel(reference, force=True)

    def execute(self, command: Sequence[str], log: Path) -> int:
        """Runs a command on a node with a GPU, where the cluster has one; returns its exit code.

        Without shared storage it runs on this machine, which has the checkpoints.
        """
        if self.storage:
            return execute(command, log)
        gpus = float(self.ray.cluster_resources().get("GPU", 0) > 0)
        remote = self.ray.remote(execute).options(num_cpus=1, num_gpus=gpus, max_retries=self.resources.retries)
        return int(self.ray.get(remote.remote(list(command), log.absolute(), Path.cwd())))

    def _options(self) -> dict[str, Any]:
        one = self.resources
        memory = {} if one.memory_gib is None else {"memory": int(one.memory_gib * 2**30)}
        return {"num_cpus": one.cpus, "num_gpus": self.gpus, "max_retries": one.retries, **memory}

    def _end(self, folder: CellFolder, reference: Any) -> None:
        """Fetches what a task left, or notes why it left nothing."""
        try:
            self.ray.get(reference)
            if self.storage:
                _fetch(self.storage, folder)
        except (self.ray.exceptions.RayError, OSError) as error:
            reason = str(error).strip().splitlines()[-1][:300]
            folder.write(replace(folder.state(), status="failed", reason=f"Ray: {reason}"))


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("Ray is not installed", place="--ray", remedy="pip install 'peft-eval[ray]'") from error
    if not ray.is_initialized():
        try:
            if host_and_port := _HOST_AND_PORT.fullmatch(address):  # Ray itself tries for minutes
                socket.create_connection((host_and_port[1], int(host_and_port[2])), timeout=10).close()
            ray.init(None if address == "local" else address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"no Ray cluster there: {str(error).splitlines()[0]}",
                place=f"--ray {address}",
                remedy="start one with `ray start --head`, or pass `--ray local`",
            ) from error
    return ray


@contextmanager
def _held(folders: Sequence[CellFolder]) -> Iterator[list[CellFolder]]:
    """Takes cells for this process, those that no other one has."""
    locks = [(folder, lock) for folder in folders if (lock := folder.lock()) is not None]
    try:
        yield [folder for folder, _ in locks]
    finally:
        for _, lock in locks:
            lock.release()


def _tell_of_new(folders: Any, seen: dict[str, str], changed: Callable[[CellFolder, State], None]) -> None:
    """Tells of cells that a node has begun since the last look."""
    for folder in folders:
        state = folder.state()
        if state.status == "running" and seen.get(folder.cell.id) != "running":
            changed(folder, state)
        seen[folder.cell.id] = state.status


def _run_cell(store: str, cell: Any, task: Task, minutes: float | None, threads: int, preload: tuple[str, ...]) -> None:
    """Runs a cell on the node that this is called on."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [visible] if visible else []
    runner = LocalRunner(1, minutes=minutes, task=task, threads=threads, devices=devices, preload=preload)
    runner.run([CellFolder(Path(store), cell)], lambda folder, state: None)


def _run_cell_away(storage: str, cell: Any, *how: Any) -> None:
    """Runs a cell in a folder of the node's own, then puts what came of it into the storage, the manifest last."""
    import fsspec

    files, root = fsspec.core.url_to_fs(storage)
    home = f"{root}/{cell.id}"
    if files.exists(f"{home}/checkpoint/{MANIFEST_NAME}"):
        return
    with tempfile.TemporaryDirectory() as store:
        _run_cell(store, cell, *how)
        folder = CellFolder(Path(store), cell)
        files.makedirs(home, exist_ok=True)
        for name in _FILES:
            if (folder.folder / name).is_file():
                files.put_file(str(folder.folder / name), f"{home}/{name}")
        if folder.trained:
            names = sorted(path.name for path in folder.checkpoint.iterdir() if path.is_file())
            files.makedirs(f"{home}/checkpoint", exist_ok=True)
            for name in sorted(names, key=lambda name: name == MANIFEST_NAME):
                files.put_file(str(folder.checkpoint / name), f"{home}/checkpoint/{name}")


def _fetch(storage: str, folder: CellFolder) -> None:
    """Brings what a node put into the storage into the store, the manifest last.

    Raises:
        OSError: the storage does not have it.
    """
    import fsspec

    files, root = fsspec.core.url_to_fs(storage)
    home = f"{root}/{folder.cell.id}"
    folder.checkpoint.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        with suppress(FileNotFoundError):
            files.get_file(f"{home}/{name}", str(folder.folder / name))
    if not files.exists(f"{home}/checkpoint/{MANIFEST_NAME}"):
        return
    names = [one.rsplit("/", 1)[-1] for one in files.ls(f"{home}/checkpoint", detail=False)]
    for name in sorted(names, key=lambda name: name == MANIFEST_NAME):
        temporary = folder.checkpoint / f".{name}"
        files.get_file(f"{home}/checkpoint/{name}", str(temporary))
        temporary.replace(folder.checkpoint / name)
