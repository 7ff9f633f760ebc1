"""The defaults of a training that depend on the kind of data and on the backbone."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["settle"]

EPOCHS = {"digits": 30, "fashion-mnist": 15}


def settle(
    data: str,
    *,
    backbone: str | None = None,
    weights: str = "hub",
    size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    ema: float | None = None,
    precision: str = "auto",
    quick: bool = False,
) -> dict[str, Any]:
    """What was asked for, and where nothing was, the default: fields of a RunSpec, with ``weights`` as their source.

    Small images are trained from scratch on a small network, in float32; photos on a pretrained one.
    """
    from labelsmooth.study.data.sources import is_small
    from labelsmooth.study.training.network import SMALL_CNN

    backbone = backbone or (SMALL_CNN if is_small(data) else "resnet34")
    small = backbone == SMALL_CNN
    native = small and is_small(data) and size is None
    default_epochs = EPOCHS.get(data, 30) if small else 4
    return {
        "backbone": backbone,
        "weights": "none" if small else weights,
        "size": 0 if native else size or (64 if small else 224),  # 0: as the images are
        "epochs": epochs or (math.ceil(default_epochs / 2) if quick else default_epochs),
        "batch_size": batch_size or (64 if small else 32),
        "learning_rate": learning_rate or (3e-3 if small else 1e-3 if weights == "none" else 1e-4),
        "ema": ema if ema is not None else 0.0 if small or weights == "none" else 0.97,
        "precision": "32" if small and precision == "auto" else precision,
    }
