"""Label smoothing and probability calibration for PyTorch classifiers."""

import importlib
from typing import Any

from labelsmooth import calibrate, metrics, penalty, smoothing
from labelsmooth.loss import (
    BrierWeightedLoss,
    DualFocalLoss,
    FocalLoss,
    LabelRelaxationLoss,
    LabelSmoothingCrossEntropy,
    LogitNormLoss,
    binary_cross_entropy_with_logits,
    brier_weighted_loss,
    cross_entropy,
    dual_focal_loss,
    focal_loss,
    label_relaxation_loss,
    linear_cross_entropy,
    logit_norm_loss,
    normalize_logits,
    vocab_parallel_cross_entropy,
    vocab_parallel_linear_cross_entropy,
)
from labelsmooth.target import Target

__all__ = [
    "BrierWeightedLoss",
    "DualFocalLoss",
    "FocalLoss",
    "LabelRelaxationLoss",
    "LabelSmoothingCrossEntropy",
    "LogitNormLoss",
    "Target",
    "binary_cross_entropy_with_logits",
    "brier_weighted_loss",
    "calibrate",
    "cross_entropy",
    "dual_focal_loss",
    "focal_loss",
    "label_relaxation_loss",
    "linear_cross_entropy",
    "logit_norm_loss",
    "metrics",
    "normalize_logits",
    "penalty",
    "smoothing",
    "vocab_parallel_cross_entropy",
    "vocab_parallel_linear_cross_entropy",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``labelsmooth.models`` on first use: it needs what only the study extra installs."""
    if name == "models":
        return importlib.import_module("labelsmooth.models")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
