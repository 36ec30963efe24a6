"""Cells on a real Ray cluster of three nodes on this machine, one of which is killed midway."""

import os
import threading
import time
from pathlib import Path

import pytest

from peft_eval.errors import ConfigError
from peft_eval.study.local import LocalRunner
from peft_eval.study.ray_runner import RayRunner, Resources
from peft_eval.study.store import CellFolder
from tests.study.cell_tasks import act, beside_another, slowly
from tests.study.test_local import cells

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'peft-eval[ray]')")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ["PYTHONPATH"] = str(ROOT)  # where the nodes find this folder's tasks
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0})
    made.nodes_to_kill = [made.add_node(**node) for _ in range(2)]
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ.update(before)


def folders(store, *seeds):
    return [CellFolder(store, cell) for cell in cells(*seeds)]


def runner(cluster, task=act, **options):
    return RayRunner(cluster.address, task=task, preload=[], **options)


def test_the_ends_are_those_of_a_local_run(cluster, tmp_path):
    seeds = (1, 2, 3, 5, 10)
    runner(cluster).run(folders(tmp_path / "ray", *seeds), lambda folder, state: None)
    LocalRunner(2, task=act, preload=[]).run(folders(tmp_path / "local", *seeds), lambda folder, state: None)
    for ours, local in zip(folders(tmp_path / "ray", *seeds), folders(tmp_path / "local", *seeds), strict=True):
        assert (ours.state().status, ours.state().reason) == (local.state().status, local.state().reason)


def test_results_come_through_an_fsspec_url(cluster, tmp_path):
    told = []
    ours = folders(tmp_path / "store", 1, 10, 11)
    away = runner(cluster, storage=f"file://{tmp_path}/bucket")
    away.run(ours, lambda folder, state: told.append(state.status))
    assert [folder.state().status for folder in ours] == ["failed", "done", "done"]
    assert sorted(told) == ["done", "done", "failed"]
    assert ours[0].state().reason == "data: no such file (fetch it)"
    again = folders(tmp_path / "another", 10, 11)  # another machine's store: the bucket has them already
    away.run(again, lambda folder, state: None)
    assert [(folder.checkpoint / "runs").read_text() for folder in again] == ["x", "x"]


def test_a_command_runs_on_a_node(cluster, tmp_path):
    assert runner(cluster).execute(["sh", "-c", "echo said; exit 3"], tmp_path / "log.txt") == 3
    assert (tmp_path / "log.txt").read_text() == "said\n"


def test_a_node_dies_and_all_cells_finish_none_twice(cluster, tmp_path):
    seeds = range(20, 32)
    ours, done = folders(tmp_path, *seeds), []
    victim = cluster.nodes_to_kill.pop()

    def kill():
        while len(done) < 3:
            time.sleep(0.05)
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    runner(cluster, task=slowly, resources=Resources(retries=5)).run(
        ours, lambda folder, state: done.append(folder) if state.status == "done" else None
    )
    assert [folder.state().status for folder in ours] == ["done"] * len(seeds)
    assert {(folder.checkpoint / "runs").read_text() for folder in ours} == {"x"}
    assert len(done) == len(seeds)
    killer.join()
    until = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) > 2 and time.monotonic() < until:
        time.sleep(0.5)  # the head looks at its nodes now and then
    assert sum(node["Alive"] for node in ray.nodes()) == 2


def test_two_cells_share_a_gpu(cluster, tmp_path):
    """Ray counts the GPUs that a node says it has; whether there are any is not looked at."""
    cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
    cluster.wait_for_nodes()
    ours = folders(tmp_path, 40, 41)
    runner(cluster, task=beside_another, resources=Resources(gpus=0.5)).run(ours, lambda folder, state: None)
    assert [folder.state().status for folder in ours] == ["done", "done"]
    assert {folder.log.read_text().splitlines()[0] for folder in ours} == {"device 0"}


def test_no_cluster_is_said():
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(ConfigError, match=r"no Ray cluster there.*ray start --head"):
        RayRunner("127.0.0.1:1")
