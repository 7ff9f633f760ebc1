"""Penalties: functions of the logits and the target that are added to a loss."""

from labelsmooth.penalty import registry
from labelsmooth.penalty.terms import acls, confidence, margin, max_suppression, poly1

__all__ = ["acls", "confidence", "margin", "max_suppression", "poly1", "registry"]
