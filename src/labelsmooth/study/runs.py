"""The training runs of a study on disk: each a folder named by its spec, there only when it is complete.

``<id>`` is a finished run, ``<id>.partial`` one being trained, or left off, with what its training needs to go on; what
is complete is renamed, which is atomic.  Whoever takes a run over from a process that may only be asleep first gives
its folder a name of its own, ``<id>.<token>.partial``: the sleeper has none left to write into, or to finish.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelsmooth.errors import UserError
from labelsmooth.files import disk_errors, read_json, write_arrays, write_json
from labelsmooth.study.claims import Claim, Claims
from labelsmooth.training.progress import Progress
from labelsmooth.training.spec import RunSpec

if TYPE_CHECKING:
    from labelsmooth.data.dataset import Dataset
    from labelsmooth.data.split import Split

__all__ = ["PARTS", "FinishedRun", "Job", "Runs"]

PARTS = ("train", "validation", "test")
MISSING = (FileNotFoundError, NotADirectoryError)
DAMAGED = (UserError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
POLL = 1.0  # seconds between two looks at the runs that other processes train


class Job(NamedTuple):
    """A run to be done, and what to call it meanwhile."""

    title: str
    spec: RunSpec


@dataclass(frozen=True)
class FinishedRun:
    """A run as its folder holds it: the logits [N, K] of each part, the curves by epoch, the time of the fit."""

    id: str
    logits: dict[str, NDArray[np.float32]]
    history: dict[str, list[float | None]]
    seconds: float
    epochs: int


class _Lost(Exception):
    """Another process has taken the run over."""


class Runs:
    """Trains runs, or reads them back where their folders are there already.

    Args:
        folder: of the study; other processes may work in it at the same time, on this machine or others.
        data, split: what to train on.
        weights: where a backbone's weights come from.
        progress: told about each run and epoch.
    """

    def __init__(self, folder: Path, data: Dataset, split: Split, weights: str, progress: Progress) -> None:
        self._folder = folder / "runs"
        self._claims = Claims(folder / "claims")
        self._data, self._split = data, split
        self._weights = weights
        self._progress = progress
        self.trained = 0  # by this process

    @property
    def labels(self) -> dict[str, NDArray[np.int64]]:
        """The labels of each part."""
        return {part: self._data.labels[getattr(self._split, part)] for part in PARTS}

    def complete(self, jobs: Sequence[Job], wait: bool = True) -> dict[str, FinishedRun]:
        """Train, in this order, what is not finished and what no other process is training.

        Args:
            jobs: the runs.
            wait: until the others have finished theirs, too (and do what a dead one leaves); otherwise only until each
                run that is not finished has shown that a living process trains it.

        Returns:
            The finished runs by id.
        """
        before = {job.spec.id for job in jobs if self._path(job.spec).exists()}
        self._progress.plan(len(jobs), sum(job.spec.id in before for job in jobs))
        finished: dict[str, FinishedRun] = {}
        beats: dict[str, float] = {}
        left = list(jobs)
        while left:
            rest = []
            for job in left:
                if (run := self._attempt(job)) is None:
                    rest.append(job)
                    continue
                finished[run.id] = run
                if run.id not in before:
                    self._progress.run_done()
            if len(rest) == len(left):
                alive = [self._alive(job.spec.id, beats) for job in rest]
                if not wait and all(alive):
                    break
                self._progress.waiting(len(rest))
                time.sleep(POLL)
            left = rest
        return finished

    def collect(self, jobs: Sequence[Job], what: str = "runs") -> dict[str, FinishedRun]:
        """The finished runs by id; a UserError says what is missing."""
        found = {job.spec.id: self._read(job.spec) for job in jobs}
        missing = [job for job in jobs if found[job.spec.id] is None]
        if missing:
            with disk_errors(self._folder):
                active = sum(self._claims.holder(job.spec.id) is not None for job in missing)
            raise UserError(
                f"{len(missing)} of {len(jobs)} {what} are missing in {self._folder}: {active} being trained now, "
                f"{len(missing) - active} not begun or left off. The same command without --merge trains what is left, "
                "waits for the others and makes the report; with --shard I/N in its place, many do so at once."
            )
        return {name: run for name, run in found.items() if run is not None}

    def _path(self, spec: RunSpec) -> Path:
        return self._folder / spec.id

    def _alive(self, name: str, beats: dict[str, float]) -> bool:
        """Whether the claim was touched since the first look at it: a killed process leaves one that looks young."""
        holder = self._claims.holder(name)
        return holder is not None and holder.beat > beats.setdefault(name, holder.beat)

    def _attempt(self, job: Job) -> FinishedRun | None:
        """The run, read or trained; None where another process trains it."""
        if (run := self._read(job.spec)) is not None:
            return run
        # Lightning takes seconds to import: a finished study needs none, and nobody should hold a claim meanwhile.
        import labelsmooth.training.fit  # noqa: F401

        with disk_errors(self._path(job.spec)), self._claims.take(job.spec.id) as claim:
            return None if claim is None else self._hold(job, claim)

    def _hold(self, job: Job, claim: Claim) -> FinishedRun | None:
        """Train a run under a claim; None when the claim was lost on the way."""
        working = self._working_folder(claim)
        # Now nobody else can finish it; before, somebody may have.
        run = self._read(job.spec)
        if run is None:
            shutil.rmtree(self._path(job.spec), ignore_errors=True)  # damaged
            try:
                self._train(job, working, claim)
            except Exception:
                if claim.held():
                    raise
            run = self._read(job.spec)
        if run is not None:
            for leftover in self._leftovers(claim.name):
                shutil.rmtree(leftover, ignore_errors=True)
        return run

    def _leftovers(self, name: str) -> list[Path]:
        return list(self._folder.glob(f"{name}*.partial"))

    def _working_folder(self, claim: Claim) -> Path:
        """What an earlier process left of the run, or an empty folder."""
        name = f"{claim.name}.{claim.token}.partial" if claim.wary else f"{claim.name}.partial"
        working = self._folder / name
        for leftover in self._leftovers(claim.name):
            if not claim.wary:
                return leftover
            with contextlib.suppress(FileNotFoundError):  # finished a moment ago
                os.rename(leftover, working)
                return working
        working.mkdir(parents=True, exist_ok=True)
        return working

    def _train(self, job: Job, working: Path, claim: Claim) -> None:
        from labelsmooth.training.checkpoint import drop_checkpoint
        from labelsmooth.training.fit import train

        def epoch(done: int, total: int) -> None:
            if claim.lost:
                raise _Lost
            self._progress.epoch(done, total)

        self._progress.run(job.title, job.spec.seed)
        done = train(job.spec, self._data, self._split, self._weights, working, epoch)
        write_arrays(working / "logits.npz", **done.logits)
        kept = {"seconds": done.seconds, "epochs": done.epochs, "history": done.history}
        write_json(working / "run.json", {"spec": dataclasses.asdict(job.spec), **kept})
        if not claim.held():
            raise _Lost
        drop_checkpoint(working)
        os.rename(working, self._path(job.spec))
        self.trained += 1

    def _read(self, spec: RunSpec) -> FinishedRun | None:
        """The run, if its folder is there and sound."""
        folder = self._path(spec)
        if not folder.exists():
            return None
        try:
            record = read_json(folder / "run.json")
            # Opened here, because np.load leaves a damaged file open.
            with open(folder / "logits.npz", "rb") as raw, np.load(raw, allow_pickle=False) as file:
                logits = {part: file[part] for part in PARTS}
            for part, labels in self.labels.items():
                if logits[part].shape != (len(labels), len(self._data.classes)):
                    return None
            return FinishedRun(spec.id, logits, record["history"], record["seconds"], record["epochs"])
        except (*MISSING, *DAMAGED):
            return None
        except OSError as error:  # says nothing about the run
            raise UserError(f"{folder} could not be read: {error.strerror or error}. Run the command again.") from error
