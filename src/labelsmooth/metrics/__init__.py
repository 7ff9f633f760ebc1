"""Metrics of error, calibration and selective prediction, on (probabilities or logits=, labels), NumPy or torch."""

from .calibration_error import ece
from .influence import influence
from .pointwise import brier, confidence_gap, error, nll
from .reliability import ReliabilityCurve, reliability_curve
from .selective import aurc

__all__ = [
    "ReliabilityCurve",
    "aurc",
    "brier",
    "confidence_gap",
    "ece",
    "error",
    "influence",
    "nll",
    "reliability_curve",
]
