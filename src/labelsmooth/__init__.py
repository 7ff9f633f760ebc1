"""Label smoothing and probability calibration for PyTorch classifiers."""

from labelsmooth import calibrate, metrics, penalty, smoothing
from labelsmooth.loss import (
    LabelSmoothingCrossEntropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    linear_cross_entropy,
    vocab_parallel_cross_entropy,
    vocab_parallel_linear_cross_entropy,
)
from labelsmooth.target import Target

__all__ = [
    "LabelSmoothingCrossEntropy",
    "Target",
    "binary_cross_entropy_with_logits",
    "calibrate",
    "cross_entropy",
    "linear_cross_entropy",
    "metrics",
    "penalty",
    "smoothing",
    "vocab_parallel_cross_entropy",
    "vocab_parallel_linear_cross_entropy",
]
__version__ = "0.1.0"
