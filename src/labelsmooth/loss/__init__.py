"""Losses: the cross-entropy of a smoothed target and the losses in its place, as functions and as modules."""

from labelsmooth.loss.binary import binary_cross_entropy_with_logits
from labelsmooth.loss.brier_weighted import BrierWeightedLoss, brier_weighted_loss
from labelsmooth.loss.cross_entropy import cross_entropy
from labelsmooth.loss.focal import DualFocalLoss, FocalLoss, dual_focal_loss, focal_loss
from labelsmooth.loss.label_relaxation import LabelRelaxationLoss, label_relaxation_loss
from labelsmooth.loss.linear import linear_cross_entropy
from labelsmooth.loss.logit_norm import LogitNormLoss, logit_norm_loss, normalize_logits
from labelsmooth.loss.module import LabelSmoothingCrossEntropy
from labelsmooth.loss.vocab_parallel import vocab_parallel_cross_entropy, vocab_parallel_linear_cross_entropy

__all__ = [
    "BrierWeightedLoss",
    "DualFocalLoss",
    "FocalLoss",
    "LabelRelaxationLoss",
    "LabelSmoothingCrossEntropy",
    "LogitNormLoss",
    "binary_cross_entropy_with_logits",
    "brier_weighted_loss",
    "cross_entropy",
    "dual_focal_loss",
    "focal_loss",
    "label_relaxation_loss",
    "linear_cross_entropy",
    "logit_norm_loss",
    "normalize_logits",
    "vocab_parallel_cross_entropy",
    "vocab_parallel_linear_cross_entropy",
]
