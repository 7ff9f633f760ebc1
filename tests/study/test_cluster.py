"""A study on a Ray cluster of two nodes, one of which is killed: the same record as from one process."""

from __future__ import annotations

import builtins
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from labelsmooth.errors import UserError
from labelsmooth.study import RayCluster, Workers, run_study

OPTIONS: dict[str, Any] = {"methods": "label-smoothing", "seeds": 2, "epochs": 40, "batch_size": 32}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Cluster, dict[Path, Any]]]:
    """A head that trains nothing, and two nodes with a core each, by the folders below which they train."""
    sockets = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short: the path of a socket has 107 characters at most
    monkeypatch.setenv("RAY_TMPDIR", sockets)
    memory = {"object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    nodes = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        nodes[tmp_path / name] = cluster.add_node(num_cpus=1, **memory)
    yield cluster, nodes
    cluster.shutdown()
    shutil.rmtree(sockets, ignore_errors=True)


def test_with_a_node_killed_the_record_is_the_same(
    cluster: tuple[Cluster, dict[Path, Any]], tiny_npz: Path, tmp_path: Path
) -> None:
    ray, nodes = cluster
    alone = run_study(data=tiny_npz, out=tmp_path / "alone", executor=Workers(1), **OPTIONS)
    killed = []

    def kill_a_node() -> None:
        while not killed and not finished.is_set():
            killed.extend(folder for folder in nodes if list(folder.glob("labelsmooth-*/run/last.ckpt")))
            time.sleep(0.02)
        ray.remove_node(nodes[killed[0]], allow_graceful=False)

    finished = threading.Event()
    killer = threading.Thread(target=kill_a_node)
    killer.start()
    try:
        together = run_study(data=tiny_npz, out=tmp_path / "together", executor=RayCluster(ray.address), **OPTIONS)
    finally:
        finished.set()
        killer.join()
    assert list(killed[0].glob("labelsmooth-*/run"))  # what is left of the run that was killed
    for field in ("methods", "data", "summary", "comparisons", "curves", "verdict"):
        assert getattr(together, field) == getattr(alone, field)
    assert sorted(run.id for run in together.runs) == sorted(
        path.name for path in (tmp_path / "together" / "runs").iterdir()
    )
    (run, *_) = together.runs
    assert (tmp_path / "together" / "runs" / run.id / "logs" / "metrics.csv").exists()

    # An error of a run is an error of the study, and the cluster remains usable.
    with pytest.raises(UserError, match=r"learning rate 1e\+30 is too high"):
        run_study(data=tiny_npz, out=tmp_path, learning_rate=1e30, seeds=1, epochs=2, executor=RayCluster(ray.address))


def test_refused(monkeypatch: pytest.MonkeyPatch, tiny_npz: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cpus=0 is too small"):
        RayCluster(cpus=0)
    with pytest.raises(UserError, match=r"gpus=1\.5 must be a whole number, or a fraction between 0 and 1"):
        RayCluster(gpus=1.5)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(UserError, match="There is no Ray cluster at 'auto'"):
        run_study(data=tiny_npz, out=tmp_path, executor=RayCluster("auto"))
    real_import = builtins.__import__

    def without_ray(name: str, *args: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(UserError, match=r"A cluster needs Ray: pip install 'labelsmooth\[cluster\]'"):
        run_study(data=tiny_npz, out=tmp_path, executor=RayCluster())
