"""Penalties: functions of the logits and labels that are added to a loss, or stand in its place."""

from labelsmooth.penalty import registry
from labelsmooth.penalty.acls import acls
from labelsmooth.penalty.confidence import confidence
from labelsmooth.penalty.focal import focal
from labelsmooth.penalty.label_relaxation import label_relaxation
from labelsmooth.penalty.logit_normalization import logit_normalization, normalized
from labelsmooth.penalty.margin import margin
from labelsmooth.penalty.max_suppression import max_suppression
from labelsmooth.penalty.poly1 import poly1

__all__ = [
    "acls",
    "confidence",
    "focal",
    "label_relaxation",
    "logit_normalization",
    "margin",
    "max_suppression",
    "normalized",
    "poly1",
    "registry",
]
