"""The training runs of a study on disk: each a folder named by its spec, there only when it is complete.

``<id>`` is a finished run.  ``<id>.<token>.partial`` is one being trained, or interrupted, with its checkpoint; a lock
on ``<id>.<token>.lock`` beside it, which the system releases when its process ends, says which.  A complete folder is
renamed to ``<id>``, which is atomic and succeeds once, so any number of processes may train in one study's folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import nn

from labelsmooth.data.dataset import Dataset
from labelsmooth.data.split import Split, harder
from labelsmooth.errors import UserError
from labelsmooth.files import disk_errors, read_json, whole_file, write_arrays, write_json
from labelsmooth.progress import Progress
from labelsmooth.training.engine import hardware
from labelsmooth.training.spec import RunSpec

PARTS = ("train", "validation", "test")
MISSING = (FileNotFoundError, NotADirectoryError)
DAMAGED = (UserError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Job:
    """A run to be trained, and its method's title."""

    title: str
    spec: RunSpec

    def __str__(self) -> str:
        return f"{self.title}, seed {self.spec.seed}"


@dataclass(frozen=True)
class Task:
    """What the runs of a study are trained on.

    Args:
        data, splits: the data set, and its splits by their seed.
        weights: the source of the backbone's weights.
        networks: the user's own, by the name that a run has in place of a backbone.
    """

    data: Dataset
    splits: Mapping[int, Split]
    weights: str
    networks: Mapping[str, Callable[[int], nn.Module]] = dataclasses.field(default_factory=dict)

    def parts(self, spec: RunSpec) -> tuple[Dataset, Split]:
        """The data set and the split of a run."""
        split, seed = self.splits[spec.split_seed], spec.split_seed
        return harder(
            self.data,
            split,
            train_size=spec.train_size,
            label_noise=spec.label_noise,
            noise_matrix=spec.noise_matrix,
            seed=seed,
        )


@dataclass(frozen=True)
class FinishedRun:
    """A run as its folder holds it: the logits [N, K] of each part, the curves by epoch, the seconds of the fit, and
    the device and threads that it was trained with."""

    id: str
    logits: dict[str, NDArray[np.float32]]
    history: dict[str, list[float | None]]
    seconds: float
    epochs: int
    hardware: dict[str, str]


class Runs:
    """The folder of a study's runs.

    Args:
        folder: of the runs; it need not exist.
        task: what they are trained on.
    """

    def __init__(self, folder: Path, task: Task) -> None:
        self.folder = folder
        self.task = task

    def labels(self, spec: RunSpec) -> dict[str, NDArray[np.int64]]:
        """The labels of each part, as the run is given them."""
        data, split = self.task.parts(spec)
        return {part: data.labels[getattr(split, part)] for part in PARTS}

    def finished(self, jobs: Iterable[Job]) -> dict[str, FinishedRun]:
        """The finished runs among the jobs, by id.

        Raises:
            UserError: a run's folder exists and cannot be read.
        """
        runs = (self._read(job.spec) for job in jobs)
        return {run.id: run for run in runs if run is not None}

    def teacher(self, job: Job) -> NDArray[np.float32] | None:
        """The logits [N, K] of a student's teacher for the training part; None for any other run.

        Raises:
            UserError: the teacher's run is not finished.
        """
        if job.spec.distillation is None:
            return None
        spec = job.spec.distillation.teacher
        if (run := self._read(spec)) is None:
            raise UserError(
                f"{job} learns from a run that is missing or damaged, {self.folder / spec.id} (seed {spec.seed}, "
                f"{spec.settings.changes() or 'plain'}). Run the study again: it trains the teachers first."
            )
        return run.logits["train"]

    def train(self, job: Job, progress: Progress) -> None:
        """Train a run, from the last epoch of an interrupted attempt if there is one, and keep it as finished.

        Raises:
            UserError: the training failed, or the run of a student's teacher is not finished.
        """
        teacher = self.teacher(job)
        with disk_errors(self.folder / job.spec.id), self._partial(job.spec.id) as partial:
            if self._read(job.spec) is None:  # another process may have finished it by now
                train_into(partial, job.spec, self.task, progress, teacher)
            self._keep(partial, job.spec)

    def add(self, job: Job, files: Mapping[str, bytes]) -> None:
        """Keep a run that was trained elsewhere, given the files of its folder."""
        with disk_errors(self.folder / job.spec.id), self._partial(job.spec.id, resume=False) as partial:
            for name, content in files.items():
                path = partial / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(path) as file:
                    file.write(content)
            self._keep(partial, job.spec)

    def clean(self, jobs: Iterable[Job]) -> None:
        """Delete what interrupted attempts at finished runs have left."""
        ids = {job.spec.id for job in jobs}
        for path in [*self.folder.glob("*.lock")]:
            if path.name.split(".")[0] in ids:
                with contextlib.suppress(Timeout, OSError), FileLock(path, blocking=False):
                    shutil.rmtree(path.with_suffix(".partial"), ignore_errors=True)
                    path.unlink()

    @contextlib.contextmanager
    def _partial(self, name: str, resume: bool = True) -> Iterator[Path]:
        """A locked folder to train a run in: an interrupted attempt's, or a new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.folder / f"{name}.{secrets.token_hex(8)}.partial"
        interrupted = sorted(self.folder.glob(f"{name}.*.partial")) if resume else []
        for partial in [*interrupted, new]:
            with contextlib.suppress(Timeout), FileLock(partial.with_suffix(".lock"), blocking=False) as lock:
                if partial == new:
                    partial.mkdir()
                if partial.exists():  # otherwise finished a moment ago
                    yield partial
                    if not partial.exists():
                        Path(lock.lock_file).unlink(missing_ok=True)
                    return

    def _keep(self, partial: Path, spec: RunSpec) -> None:
        """Give a complete folder its final name, unless another process was first."""
        path = self.folder / spec.id
        if self._read(spec) is None:
            shutil.rmtree(path, ignore_errors=True)  # damaged
            try:
                os.rename(partial, path)
            except OSError:
                if self._read(spec) is None:
                    raise
        shutil.rmtree(partial, ignore_errors=True)

    def _read(self, spec: RunSpec) -> FinishedRun | None:
        """The run, if its folder is there and undamaged."""
        folder = self.folder / spec.id
        try:
            record = read_json(folder / "run.json")
            # Opened here, because np.load leaves a damaged file open.
            with open(folder / "logits.npz", "rb") as raw, np.load(raw, allow_pickle=False) as file:
                logits = {part: file[part] for part in PARTS}
            for part, labels in self.labels(spec).items():
                if logits[part].shape != (len(labels), len(self.task.data.classes)):
                    return None
            history, seconds, epochs = record["history"], record["seconds"], record["epochs"]
            return FinishedRun(spec.id, logits, history, seconds, epochs, record.get("hardware", {}))
        except (*MISSING, *DAMAGED):
            return None
        except OSError as error:  # says nothing about the run
            raise UserError(f"{folder} could not be read: {error.strerror or error}. Run the command again.") from error


def train_into(
    folder: Path, spec: RunSpec, task: Task, progress: Progress, teacher: NDArray[np.float32] | None = None
) -> None:
    """Train a run in a folder, from the checkpoint that it holds if there is one; then it is a finished run's.

    Args:
        teacher: of a student, its teacher's logits [N, K] for the training part.
    """
    from labelsmooth.training.checkpoint import drop_checkpoint
    from labelsmooth.training.fit import train

    data, split = task.parts(spec)
    if teacher is not None:
        rows = np.zeros((len(data.labels), teacher.shape[1]), np.float32)
        rows[split.train] = teacher
        data = dataclasses.replace(data, teacher=rows)
    weights = spec.weights if spec.weights in ("none", "hub") else task.weights
    trained = train(spec, data, split, weights, folder, progress, make=task.networks.get(spec.backbone))
    write_arrays(folder / "logits.npz", **trained.logits)
    kept = {"seconds": trained.seconds, "epochs": trained.epochs, "history": trained.history, "hardware": hardware()}
    write_json(folder / "run.json", {"spec": dataclasses.asdict(spec), **kept})
    drop_checkpoint(folder)
