"""No calibration: what `best` returns when nothing helps."""

from __future__ import annotations

import torch

from .base import Calibrator


class Identity(Calibrator):
    """Leave the logits as they are.

    Example:
        >>> import numpy as np
        >>> Identity().fit(np.eye(3), np.arange(3)).transform(np.eye(3))[0]
        array([1., 0., 0.])
    """

    def __init__(self) -> None:
        pass

    def _fit(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> None:
        pass

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {}

    @staticmethod
    def _calibrated(z: torch.Tensor, **tensors: torch.Tensor) -> torch.Tensor:
        return z
