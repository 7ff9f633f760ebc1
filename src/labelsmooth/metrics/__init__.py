"""Metrics of error, calibration and selective prediction, on (probabilities or logits=, labels), NumPy or torch."""

from .calibration_error import ece
from .compare import Difference, compare
from .curves import (
    ConfidenceHistogram,
    Reliability,
    ReliabilityCurve,
    RiskCoverage,
    confidence_histogram,
    reliability_curve,
    risk_coverage,
)
from .hypothesis import TestResult, consistency_test, spiegelhalter_test
from .influence import influence
from .interval import Estimate, Interval
from .parts import BrierSplit, brier_split, debiased_ece, over_confidence, under_confidence
from .pointwise import brier, confidence_gap, error, nll
from .selective import aurc, confidence_score, e_aurc, risk_at_coverage
from .smooth import ks, smooth_ece
from .summary import summary

__all__ = [
    "BrierSplit",
    "ConfidenceHistogram",
    "Difference",
    "Estimate",
    "Interval",
    "Reliability",
    "ReliabilityCurve",
    "RiskCoverage",
    "TestResult",
    "aurc",
    "brier",
    "brier_split",
    "compare",
    "confidence_gap",
    "confidence_histogram",
    "confidence_score",
    "consistency_test",
    "debiased_ece",
    "e_aurc",
    "ece",
    "error",
    "influence",
    "ks",
    "nll",
    "over_confidence",
    "reliability_curve",
    "risk_at_coverage",
    "risk_coverage",
    "smooth_ece",
    "spiegelhalter_test",
    "summary",
    "under_confidence",
]
