"""What ``labelsmooth train`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelsmooth.errors import UserError
from labelsmooth.training.engine import PRECISIONS, Engine
from labelsmooth.training.spec import Settings, check_ranges

__all__ = ["TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """One training, in full.  None means: the default for this kind of data, which ``config.json`` then states.

    Args:
        data: "digits", "fashion-mnist", "cifar10", "pets", a folder of class folders, or an ``.npz`` file.
        out: the folder of the model; by default ``models/`` and the data's name.
        backbone: "small-cnn", or the name of any timm model; resnet34 for photos.
        weights: for a timm model: "hub" (pretrained, downloaded by timm), "none", or a safetensors file.
        settings: the loss and the regularisers; by default uniform label smoothing of 0.1.
        epochs, size, batch_size, learning_rate: as in :class:`labelsmooth.study.StudyConfig`.
        find_lr: find the learning rate by a sweep first.
        freeze_epochs: of the epochs, those spent on a pretrained network's new head alone: it is fitted to the features
            in one go.
        ema: decay of the running average of the weights that predicts; 0 keeps none.  0.97 for a pretrained network.
        precision: "auto" (bfloat16 where the hardware has it), "32", "bf16" or "16" (on a GPU).
        validation: share of the photos outside the test part that are held out, to watch the training and to fit the
            calibrator; 0 trains on all of them and fits none.
        seed, split_seed: of the training, and of the split into parts.
        data_dir: where torchvision's data sets lie or are downloaded to.
        skip_corrupt: leave out photos that cannot be used.
        resume: go on with a training that was stopped in ``out``.
        overwrite: replace a model that is in ``out``, or a stopped training.
        engine: devices, machines, compilation and loggers.

    Raises:
        UserError: a value outside its range.
    """

    data: str
    out: Path | None = None
    backbone: str | None = None
    weights: str = "hub"
    settings: Settings = field(default_factory=lambda: Settings(epsilon=0.1))
    epochs: int | None = None
    size: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    find_lr: bool = False
    freeze_epochs: int = 1
    ema: float | None = None
    precision: str = "auto"
    validation: float | None = None
    seed: int = 0
    split_seed: int = 0
    data_dir: Path | None = None
    skip_corrupt: bool = False
    resume: bool = False
    overwrite: bool = False
    engine: Engine = field(default_factory=Engine)

    def __post_init__(self) -> None:
        check_ranges(self, freeze_epochs=0, seed=0)
        _inside("ema", self.ema or 0, 0, 1)
        _inside("settings.epsilon", self.settings.epsilon, 0, 1)
        _inside("settings.dropout", self.settings.dropout, 0, 1)
        _inside("validation", self.validation or 0, 0, 0.9)
        if self.settings.mixup < 0:
            raise UserError(f"mixup={self.settings.mixup} must be at least 0; 0.2 is usual.")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r} is unknown; give one of {', '.join(PRECISIONS)}.")
        if self.settings.patience and self.validation == 0:
            raise UserError("patience needs a validation part; give validation a share above 0.")
        if self.find_lr and (self.learning_rate is not None or self.engine.world > 1):
            raise UserError("find_lr needs one process, and no learning_rate beside it.")

    @property
    def folder(self) -> Path:
        return self.out or Path("models") / Path(self.data).stem


def _inside(name: str, value: Any, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{name}={value} must lie in [{low}, {high}].")
