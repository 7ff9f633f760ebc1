"""One training: its options, and the record of it that ``metrics.json`` holds and the report shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelsmooth.data import Columns
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath, read_record
from labelsmooth.metrics import ClassCounts, Reliability
from labelsmooth.training.engine import PRECISIONS, Engine
from labelsmooth.training.options import TrainingKeywords, TrainingOptions, data_stem
from labelsmooth.training.spec import RateTest, Settings, check_range, check_whole

FORMAT = 2


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainConfig(TrainingOptions):
    """One training.  None: the default for this kind of data, which ``config.json`` then states.

    Args:
        data, columns, nested, skip_corrupt, data_dir, split_seed: as in :class:`labelsmooth.training.TrainingOptions`.
        backbone, weights, size, epochs, batch_size, learning_rate: as there.
        out: the folder of the model; by default ``models/`` and the name of the data.
        settings: the loss and the regularisers; by default uniform label smoothing with epsilon 0.1.
        find_lr: find the learning rate by a range test first.
        freeze_epochs: the epochs that fit a pretrained network's new head alone, in one step.
        ema: decay of the running average of the weights, which predicts, in [0, 1]; 0 for no average, by default
            0.97 for a pretrained network.
        precision: "auto" (bfloat16 where the hardware has it), "32", "bf16", or "16" on a GPU.
        validation: share of the images outside the test part that are held out to watch the training and to fit the
            calibrator, in [0, 0.9]; 0 trains on all of them, without a calibrator.
        seed: of the training.
        resume: continue a training that was stopped in ``out``.
        overwrite: replace a model in ``out``, or a stopped training.
        engine: devices, machines, compilation and loggers.

    Raises:
        UserError: a value outside its range.

    Example:
        >>> str(TrainConfig(data="photos", out="model", epochs=8).folder)
        'model'
    """

    settings: Settings = field(default_factory=lambda: Settings(epsilon=0.1))
    find_lr: bool = False
    freeze_epochs: int = 1
    ema: float | None = None
    precision: str = "auto"
    validation: float | None = None
    seed: int = 0
    resume: bool = False
    overwrite: bool = False
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("freeze_epochs", self.freeze_epochs, 0)
        check_whole("seed", self.seed, 0)
        check_range("ema", self.ema, 0, 1)
        check_range("validation", self.validation, 0, 0.9)
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r} is unknown; give one of {', '.join(PRECISIONS)}.")
        if self.settings.patience and self.validation == 0:
            raise UserError("patience needs a validation part; give validation a share above 0.")
        if self.find_lr and (self.learning_rate is not None or self.engine.world > 1):
            raise UserError("find_lr needs one process, and no learning_rate beside it.")
        self.check_folder(self.folder)

    @property
    def folder(self) -> Path:
        """The folder of the model."""
        return Path(self.out or Path("models") / data_stem(self.data))


class TrainKeywords(TrainingKeywords, total=False):
    """The fields of :class:`TrainConfig` as keyword arguments."""

    settings: Settings
    find_lr: bool
    freeze_epochs: int
    ema: float | None
    precision: str
    validation: float | None
    seed: int
    resume: bool
    overwrite: bool
    engine: Engine


@dataclass(frozen=True)
class Measured:
    """A metric of the test part with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MeasuredSets:
    """Prediction sets on the test part: the coverage that was asked for, the share of sets that held the label, and the
    mean number of classes; ``unlike`` is the share of test images that are marked, None without features."""

    asked: float
    coverage: Measured
    size: float
    unlike: float | None


@dataclass(frozen=True)
class Mistake:
    """An example whose label and prediction differ; ``confidence`` is that of the predicted class, ``picture`` a small
    JPEG in base64."""

    file: str
    label: str
    predicted: str
    confidence: float
    picture: str


@dataclass(frozen=True)
class TrainingData:
    """The data of a training, and how many examples each part has; ``fractions`` are the shares of the parts."""

    name: str
    fingerprint: str
    split_seed: int
    fractions: list[float]
    skipped: list[str]
    notes: list[str]
    nested: bool
    columns: Columns
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class CalibratorRecord:
    """The calibrator of a trained model, "" without one, why it is that one, and whether the model applies it."""

    name: str
    reason: str
    applied: bool


@dataclass(frozen=True, repr=False)
class TrainingRecord:
    """One training.  ``metrics`` holds the metrics of the test part "as trained" and, if there is a calibrator,
    "calibrated"; ``applied`` is the one that the model predicts with."""

    classes: list[str]
    data: TrainingData
    recipe: dict[str, Any]  # the fields of the RunSpec, with those of its settings that differ from the baseline's
    sentence: str  # over- or under-confident, as the model predicts
    metrics: dict[str, dict[str, Measured]]
    calibrator: CalibratorRecord
    reliability: dict[str, Reliability]  # by the keys of metrics
    confusion: list[list[int]]  # [label][predicted]
    class_counts: ClassCounts  # as the model predicts
    mistakes: list[Mistake]  # in descending order of confidence
    history: dict[str, list[float | None]]
    seconds: float
    epochs: int
    versions: dict[str, str]
    command: str
    sets: MeasuredSets | None = None  # None with too few validation images
    suspects: list[Mistake] = field(default_factory=list)  # training examples that may be mislabelled
    suspected: int = 0  # how many there are in all
    rate_test: RateTest | None = None
    format: int = FORMAT

    def __repr__(self) -> str:
        error = self.metrics[self.applied]["error"].value
        return f"TrainingRecord({self.data.name}: {len(self.classes)} classes, test error {error:.1%}, {self.applied})"

    @property
    def applied(self) -> str:
        return "calibrated" if self.calibrator.applied else "as trained"


def load_training(path: StrPath) -> TrainingRecord:
    """Read ``metrics.json``, given the file or the model's folder.

    Raises:
        UserError: the file does not exist, or has another format.
    """
    folder = "a model that labelsmooth train made"
    return read_record(TrainingRecord, path, FORMAT, "training", "metrics.json", folder)
