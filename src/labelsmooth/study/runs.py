"""The training runs of a study on disk: each a folder named by its spec, there only when it is complete."""

from __future__ import annotations

import dataclasses
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labelsmooth.study.config import RunSpec
from labelsmooth.study.errors import StudyError
from labelsmooth.study.files import read_json, whole_folder, write_arrays, write_json
from labelsmooth.study.progress import Progress

if TYPE_CHECKING:
    from labelsmooth.study.data.dataset import Dataset
    from labelsmooth.study.data.split import Split

__all__ = ["PARTS", "FinishedRun", "Runs"]

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class FinishedRun:
    """A run as its folder holds it: the logits [N, K] of each part, the curves by epoch, the time of the fit."""

    id: str
    logits: dict[str, NDArray[np.float32]]
    history: dict[str, list[float | None]]
    seconds: float
    epochs: int


class Runs:
    """Trains a run, or reads it back where its folder is there already."""

    def __init__(self, folder: Path, data: Dataset, split: Split, weights: str, progress: Progress) -> None:
        self._folder = folder
        self._data, self._split = data, split
        self._weights = weights
        self._progress = progress

    @property
    def labels(self) -> dict[str, NDArray[np.int64]]:
        """The labels of each part."""
        return {part: self._data.labels[getattr(self._split, part)] for part in PARTS}

    def finished(self, spec: RunSpec) -> bool:
        return (self._folder / spec.id).exists()

    def run(self, title: str, spec: RunSpec) -> FinishedRun:
        """The finished run; trained now, if its folder is not there or cannot be read."""
        if self.finished(spec):
            try:
                return self._read(spec)
            except (StudyError, OSError, KeyError, ValueError, zipfile.BadZipFile):
                shutil.rmtree(self._folder / spec.id, ignore_errors=True)
        # Lightning takes seconds to import; a finished study needs none.
        from labelsmooth.study.training.fit import train

        self._progress.run(title, spec.seed)
        with whole_folder(self._folder / spec.id) as folder:
            done = train(spec, self._data, self._split, self._weights, folder, self._progress.epoch)
            write_arrays(folder / "logits.npz", **done.logits)
            kept = {"seconds": done.seconds, "epochs": done.epochs, "history": done.history}
            write_json(folder / "run.json", {"spec": dataclasses.asdict(spec), **kept})
        self._progress.run_done()
        return self._read(spec)

    def _read(self, spec: RunSpec) -> FinishedRun:
        folder = self._folder / spec.id
        record = read_json(folder / "run.json")
        # Opened here, because np.load leaves a damaged file open.
        with open(folder / "logits.npz", "rb") as raw, np.load(raw, allow_pickle=False) as file:
            logits = {part: file[part] for part in PARTS}
        for part, labels in self.labels.items():
            if logits[part].shape != (len(labels), len(self._data.classes)):
                raise StudyError(f"{folder} holds logits of another data set.")
        return FinishedRun(spec.id, logits, record["history"], record["seconds"], record["epochs"])
