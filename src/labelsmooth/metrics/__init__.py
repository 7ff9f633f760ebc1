"""Metrics of error, calibration and selective prediction, on (probabilities or logits=, labels), NumPy or torch."""

from .calibration_error import debiased_ece, ece, over_confidence, under_confidence
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
from .interval import Estimate, Interval
from .parts import BrierSplit, brier_split
from .pointwise import brier, confidence_gap, error, nll
from .selective import (
    ScoreChoice,
    augrc,
    aurc,
    choose_score,
    confidence_score,
    e_aurc,
    failure_auroc,
    risk_at_coverage,
)
from .smooth import ks, smooth_ece
from .summary import influence, summary

__all__ = [
    "BrierSplit",
    "ConfidenceHistogram",
    "Difference",
    "Estimate",
    "Interval",
    "Reliability",
    "ReliabilityCurve",
    "RiskCoverage",
    "ScoreChoice",
    "TestResult",
    "augrc",
    "aurc",
    "brier",
    "brier_split",
    "choose_score",
    "compare",
    "confidence_gap",
    "confidence_histogram",
    "confidence_score",
    "consistency_test",
    "debiased_ece",
    "e_aurc",
    "ece",
    "error",
    "failure_auroc",
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
