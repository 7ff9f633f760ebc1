"""Metrics of error, calibration and selective prediction, on (probabilities or logits=, labels), NumPy or torch."""

from labelsmooth.metrics.by_class import ClassMetrics, compare_classes, per_class
from labelsmooth.metrics.calibration_error import debiased_ece, ece, over_confidence, under_confidence
from labelsmooth.metrics.compare import Difference, compare
from labelsmooth.metrics.counts import (
    BinaryCounts,
    ClassCounts,
    ThresholdCurve,
    binary_counts,
    class_counts,
    threshold_curve,
)
from labelsmooth.metrics.curves import (
    ConfidenceHistogram,
    Reliability,
    ReliabilityCurve,
    RiskCoverage,
    confidence_histogram,
    reliability_curve,
    risk_coverage,
)
from labelsmooth.metrics.hypothesis import TestResult, consistency_test, spiegelhalter_test
from labelsmooth.metrics.interval import Estimate, Interval
from labelsmooth.metrics.pointwise import brier, confidence_gap, error, nll
from labelsmooth.metrics.selective import (
    ScoreChoice,
    augrc,
    aurc,
    choose_score,
    confidence_score,
    e_aurc,
    failure_auroc,
    risk_at_coverage,
)
from labelsmooth.metrics.smooth import ks, smooth_ece
from labelsmooth.metrics.splits import BrierSplit, NLLSplit, brier_split, nll_split
from labelsmooth.metrics.summary import influence, summary
from labelsmooth.metrics.verdict import Verdict, verdict

__all__ = [
    "BinaryCounts",
    "BrierSplit",
    "ClassCounts",
    "ClassMetrics",
    "ConfidenceHistogram",
    "Difference",
    "Estimate",
    "Interval",
    "NLLSplit",
    "Reliability",
    "ReliabilityCurve",
    "RiskCoverage",
    "ScoreChoice",
    "TestResult",
    "ThresholdCurve",
    "Verdict",
    "augrc",
    "aurc",
    "binary_counts",
    "brier",
    "brier_split",
    "choose_score",
    "class_counts",
    "compare",
    "compare_classes",
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
    "nll_split",
    "over_confidence",
    "per_class",
    "reliability_curve",
    "risk_at_coverage",
    "risk_coverage",
    "smooth_ece",
    "spiegelhalter_test",
    "summary",
    "threshold_curve",
    "under_confidence",
    "verdict",
]
