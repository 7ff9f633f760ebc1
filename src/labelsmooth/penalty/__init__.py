"""Penalties: functions of the logits and the target that are added to a loss."""

from labelsmooth.penalty import registry
from labelsmooth.penalty.logit_gaps import acls, margin, max_suppression
from labelsmooth.penalty.probabilities import confidence, poly1

__all__ = ["acls", "confidence", "margin", "max_suppression", "poly1", "registry"]
