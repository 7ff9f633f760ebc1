"""Losses: the cross-entropy of a smoothed target, as functions and as modules."""

from labelsmooth.loss.binary import binary_cross_entropy_with_logits
from labelsmooth.loss.cross_entropy import cross_entropy
from labelsmooth.loss.linear import linear_cross_entropy
from labelsmooth.loss.module import LabelSmoothingCrossEntropy
from labelsmooth.loss.vocab_parallel import vocab_parallel_cross_entropy, vocab_parallel_linear_cross_entropy

__all__ = [
    "LabelSmoothingCrossEntropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "linear_cross_entropy",
    "vocab_parallel_cross_entropy",
    "vocab_parallel_linear_cross_entropy",
]
