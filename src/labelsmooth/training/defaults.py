"""What a study and a single training share before they train: defaults by data and backbone, and the data itself."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from labelsmooth.training.progress import Progress

if TYPE_CHECKING:
    from labelsmooth.data.dataset import Dataset

__all__ = ["Asked", "load", "settle"]

EPOCHS = {"digits": 30, "fashion-mnist": 15}


class Asked(Protocol):
    """What a study and a single training are both asked."""

    @property
    def data(self) -> str | os.PathLike[str]: ...
    @property
    def backbone(self) -> str | None: ...
    @property
    def weights(self) -> str | os.PathLike[str]: ...
    @property
    def size(self) -> int | None: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def batch_size(self) -> int | None: ...
    @property
    def learning_rate(self) -> float | None: ...
    @property
    def data_dir(self) -> str | os.PathLike[str] | None: ...
    @property
    def skip_corrupt(self) -> bool: ...


def settle(asked: Asked, *, ema: float | None = None, precision: str = "auto", quick: bool = False) -> dict[str, Any]:
    """What was asked for, and where nothing was, the default: fields of a RunSpec, with ``weights`` as their source.

    Small images are trained from scratch on a small network, in float32; photos on a pretrained one.
    """
    from labelsmooth.data.sources import is_small
    from labelsmooth.training.network import SMALL_CNN

    data, weights = os.fspath(asked.data), os.fspath(asked.weights)
    backbone = asked.backbone or (SMALL_CNN if is_small(data) else "resnet34")
    small = backbone == SMALL_CNN
    native = small and is_small(data) and asked.size is None
    default_epochs = EPOCHS.get(data, 30) if small else 4
    return {
        "backbone": backbone,
        "weights": "none" if small else weights,
        "size": 0 if native else asked.size or (64 if small else 224),  # 0: as the images are
        "epochs": asked.epochs or (math.ceil(default_epochs / 2) if quick else default_epochs),
        "batch_size": asked.batch_size or (64 if small else 32),
        "learning_rate": asked.learning_rate or (3e-3 if small else 1e-3 if weights == "none" else 1e-4),
        "ema": ema if ema is not None else 0.0 if small or weights == "none" else 0.97,
        "precision": "32" if small and precision == "auto" else precision,
    }


def load(asked: Asked, settled: dict[str, Any], progress: Progress) -> Dataset:
    """The data, with what is to be said of it said."""
    from labelsmooth.data.sources import load_dataset

    data_dir = None if asked.data_dir is None else Path(asked.data_dir)
    data = load_dataset(os.fspath(asked.data), data_dir, settled["size"] or None, progress.photos, asked.skip_corrupt)
    progress.data(data.remarks)
    return data
