"""Label smoothing and probability calibration for PyTorch classifiers."""

from labelsmooth import smoothing
from labelsmooth.loss import LabelSmoothingCrossEntropy, cross_entropy
from labelsmooth.target import Target

__all__ = ["LabelSmoothingCrossEntropy", "Target", "cross_entropy", "smoothing"]
__version__ = "0.1.0"
