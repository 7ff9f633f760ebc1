"""Losses: the cross-entropy of a smoothed target, as functions and as modules."""

from labelsmooth.loss.cross_entropy import cross_entropy
from labelsmooth.loss.module import LabelSmoothingCrossEntropy

__all__ = ["LabelSmoothingCrossEntropy", "cross_entropy"]
