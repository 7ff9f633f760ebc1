"""Label smoothing and probability calibration for PyTorch classifiers."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelsmooth import calibrate, metrics, penalty, smoothing
    from labelsmooth.errors import UserError
    from labelsmooth.loss import (
        BrierWeightedLoss,
        DualFocalLoss,
        FocalLoss,
        LabelRelaxationLoss,
        LabelSmoothingCrossEntropy,
        LogitNormLoss,
        binary_cross_entropy_with_logits,
        brier_weighted_loss,
        dual_focal_loss,
        focal_loss,
        label_relaxation_loss,
        linear_cross_entropy,
        logit_norm_loss,
        normalize_logits,
        vocab_parallel_cross_entropy,
        vocab_parallel_linear_cross_entropy,
    )
    from labelsmooth.loss.cross_entropy import cross_entropy  # mypy would take the room's for this module
    from labelsmooth.target import Target

__all__ = [
    "BrierWeightedLoss",
    "DualFocalLoss",
    "FocalLoss",
    "LabelRelaxationLoss",
    "LabelSmoothingCrossEntropy",
    "LogitNormLoss",
    "Target",
    "UserError",
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
ROOMS = (
    "calibrate", "data", "doctor", "interop", "loss", "metrics", "models", "penalty", "predictions", "report",
    "smoothing", "study", "training",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """Public names and rooms, on first use: the command has settings to make before PyTorch is imported."""
    if name in ROOMS:
        return importlib.import_module(f"labelsmooth.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = {"Target": "target", "UserError": "errors"}.get(name, "loss")
    value = getattr(importlib.import_module(f"labelsmooth.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *ROOMS})
