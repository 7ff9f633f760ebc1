"""The record of a training, as ``metrics.json`` holds it and the report shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsmooth.errors import UserError
from labelsmooth.files import StrPath, read_record
from labelsmooth.metrics import ClassCounts, Reliability

__all__ = ["Measured", "Mistake", "TrainingRecord", "load_training"]

FORMAT = 2


@dataclass(frozen=True)
class Measured:
    """A metric of the test part with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Mistake:
    """A test example that the model got wrong; ``confidence`` is that of the predicted class, ``picture`` a small JPEG
    in base64."""

    file: str
    label: str
    predicted: str
    confidence: float
    picture: str


@dataclass(frozen=True, repr=False)
class TrainingRecord:
    """One training.  ``metrics`` holds the metrics of the test part "as trained" and, if there is a calibrator,
    "calibrated"; ``applied`` is the one that the model predicts with."""

    classes: list[str]
    data: dict[str, Any]
    recipe: dict[str, Any]
    sentence: str  # over- or under-confident, as the model predicts
    metrics: dict[str, dict[str, Measured]]
    calibrator: dict[str, Any]  # name, reason, applied
    reliability: dict[str, Reliability]  # by the keys of metrics
    confusion: list[list[int]]  # [label][predicted]
    class_counts: ClassCounts  # as the model predicts
    mistakes: list[Mistake]  # in descending order of confidence
    history: dict[str, list[float | None]]
    seconds: float
    epochs: int
    versions: dict[str, str]
    command: str
    format: int = FORMAT

    def __repr__(self) -> str:
        error = self.metrics[self.applied]["error"].value
        return (
            f"TrainingRecord({self.data['name']}: {len(self.classes)} classes, test error {error:.1%}, {self.applied})"
        )

    @property
    def applied(self) -> str:
        return "calibrated" if self.calibrator["applied"] else "as trained"


def load_training(path: StrPath) -> TrainingRecord:
    """Read ``metrics.json``, given the file or the model's folder.

    Raises:
        UserError: the file does not exist, or has another format.
    """
    path = Path(path)
    path = path / "metrics.json" if path.is_dir() else path
    if not path.exists():
        raise UserError(f"{path} does not exist; give the folder of a model that labelsmooth train made.")
    return read_record(TrainingRecord, path, FORMAT, "training")
