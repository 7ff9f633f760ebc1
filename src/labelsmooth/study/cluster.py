"""The runs of a study on a Ray cluster: each is a task, and its result comes back to the driver."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.study.executor import ATTEMPTS, threads_for
from labelsmooth.study.runs import Job, Runs, Task, train_into
from labelsmooth.training.spec import RunSpec

Files = dict[str, bytes]  # a folder's, by their paths within it


class RayCluster:
    """Tasks on a Ray cluster (``pip install 'labelsmooth[cluster]'`` on every node), each one run.

    Ray carries the data to the nodes and the finished runs back, so the nodes need no shared folder.  A run whose node
    dies is trained again on another.

    Args:
        address: of the cluster, "auto" on one of its nodes, "ray://HOST:10001" from elsewhere; None starts Ray on this
            machine alone.
        cpus: CPU cores, and threads, of each run; by default 1 for the small network and up to 4 for others.
        gpus: GPUs of each run; a fraction shares a GPU between runs.  By default 1 where the cluster has GPUs.

    Raises:
        UserError: Ray is not installed, or a number is out of its range.

    Source: Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications" (2018).
    """

    def __init__(self, address: str | None = None, *, cpus: int | None = None, gpus: float | None = None) -> None:
        if cpus is not None and cpus < 1:
            raise UserError(f"cpus={cpus} is too small; give at least 1.")
        if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
            raise UserError(f"gpus={gpus} must be a whole number, or a fraction between 0 and 1.")
        self._address, self._cpus, self._gpus = address, cpus, gpus

    def train(self, jobs: Sequence[Job], runs: Runs, progress: Progress) -> Generator[Job, None, None]:
        """Train the runs; see :class:`labelsmooth.study.Executor`."""
        if not jobs:
            return
        try:
            import ray
        except ImportError as error:
            raise UserError("A cluster needs Ray: pip install 'labelsmooth[cluster]', on every node.") from error
        connected = ray.is_initialized()
        if not connected:
            try:
                ray.init(self._address or "local", log_to_driver=False, logging_level=logging.ERROR)
            except ConnectionError as error:
                raise UserError(f"There is no Ray cluster at {self._address!r} ({error}); start it first.") from error
        cpus = self._cpus or threads_for(jobs[0].spec.backbone)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = min(1, resources.get("GPU", 0)) if self._gpus is None else self._gpus
        train = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=ATTEMPTS - 1)(_train)
        task, weights = ray.put(runs.task), ray.put(_weights(runs.task.weights))
        pending = {train.remote(job.spec, task, weights, cpus, runs.teacher(job)): job for job in jobs}
        try:
            while pending:
                (done, *_), _ = ray.wait(list(pending))
                job = pending.pop(done)
                try:
                    runs.add(job, ray.get(done))
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    raise UserError(
                        f"{job} failed {ATTEMPTS} times ({error}). Run the same command again: finished runs are kept."
                    ) from error
                yield job
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)
            if not connected:
                ray.shutdown()


def _weights(source: str) -> bytes | None:
    """The content of a file of weights; None where they come from elsewhere."""
    return Path(source).read_bytes() if Path(source).is_file() else None


def _train(
    spec: RunSpec, task: Task, weights: bytes | None, threads: int, teacher: NDArray[np.float32] | None
) -> Files:
    """Train a run on a node; returns the files of its folder."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="labelsmooth-") as name:
        folder = Path(name, "run")
        folder.mkdir()
        if weights is not None:
            file = Path(name, "weights.safetensors")
            file.write_bytes(weights)
            task = replace(task, weights=str(file))
        train_into(folder, spec, task, Progress(), teacher)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
