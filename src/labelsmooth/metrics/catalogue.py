"""The catalogue: each metric's name, title, meaning, unit, better direction and statistic, once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from labelsmooth.metrics.calibration_error import debiased_ece, ece, over_confidence, under_confidence
from labelsmooth.metrics.pointwise import brier, confidence_gap, error, nll
from labelsmooth.metrics.selective import augrc, aurc, e_aurc, failure_auroc, risk_at_coverage
from labelsmooth.metrics.smooth import ks, smooth_ece
from labelsmooth.metrics.statistic import Statistic

Unit = Literal["percent", "nats", "number"]
Better = Literal["lower", "higher", "zero"]


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    Attributes:
        name: of the function in :mod:`labelsmooth.metrics`, the key of JSON records and of command-line options.
        title: heading of a table or a picture.
        meaning: one line for a glossary or a tooltip.
        unit: "percent" for a share (its differences are percentage points), "nats", or "number".
        better: which values are better: "lower", "higher", or those nearer to "zero".
        statistic: makes the metric's :class:`Statistic` of rows; None for a number that is not made of rows alone.
    """

    name: str
    title: str
    meaning: str
    unit: Unit
    better: Better
    statistic: Callable[..., Statistic] | None = None

    @property
    def percent(self) -> bool:
        return self.unit == "percent"


CATALOGUE = {
    metric.name: metric
    for metric in (
        Metric("error", "Error", "share of wrong predictions", "percent", "lower", error.statistic),
        Metric(
            "nll", "NLL", "mean negative log-likelihood of the labels, in nats: error and calibration together", "nats",
            "lower", nll.statistic,
        ),
        Metric(
            "brier", "Brier score",
            "mean squared distance between the probabilities and the label: error and calibration together", "number",
            "lower", brier.statistic,
        ),
        Metric(
            "ece", "ECE",
            "expected calibration error: mean distance between confidence and accuracy over 15 bins of equal mass",
            "percent", "lower", ece.statistic,
        ),
        Metric(
            "ece_equal_width", "ECE (equal width)", "expected calibration error over 15 bins of equal width", "percent",
            "lower", partial(ece.statistic, binning="equal-width"),
        ),
        Metric(
            "debiased_ece", "Debiased ECE",
            "root-mean-square calibration error, with the variance of the bins subtracted", "percent", "lower",
            debiased_ece.statistic,
        ),
        Metric(
            "smooth_ece", "Smooth ECE", "calibration error smoothed over confidence, without bins", "percent", "lower",
            smooth_ece.statistic,
        ),
        Metric(
            "ks", "KS calibration error", "largest cumulative difference between confidence and accuracy", "percent",
            "lower", ks.statistic,
        ),
        Metric(
            "confidence_gap", "Confidence gap",
            "mean confidence minus accuracy: above 0 over-confident, below 0 under-confident", "percent", "zero",
            confidence_gap.statistic,
        ),
        Metric(
            "over_confidence", "Over-confidence", "part of the ECE from bins whose confidence is above their accuracy",
            "percent", "lower", over_confidence.statistic,
        ),
        Metric(
            "under_confidence", "Under-confidence",
            "part of the ECE from bins whose confidence is below their accuracy", "percent", "lower",
            under_confidence.statistic,
        ),
        Metric(
            "aurc", "AURC",
            "area under the risk-coverage curve: mean error among the most confident predictions, over all coverages",
            "number", "lower", aurc.statistic,
        ),
        Metric(
            "e_aurc", "E-AURC", "AURC minus that of the best order of the same errors", "number", "lower",
            e_aurc.statistic,
        ),
        Metric(
            "augrc", "AUGRC",
            "area under the generalised risk-coverage curve: mean share of predictions that are kept and wrong",
            "number", "lower", augrc.statistic,
        ),
        Metric(
            "failure_auroc", "AUROC of failure", "how often a right prediction is more confident than a wrong one",
            "number", "higher", failure_auroc.statistic,
        ),
        Metric(
            "risk_at_coverage", "Risk at coverage", "error among the most confident share of the predictions",
            "percent", "lower", risk_at_coverage.statistic,
        ),
    )
}  # fmt: skip
"""Every metric, by its name."""

SUMMARY = ("error", "nll", "brier", "ece", "smooth_ece", "ks", "confidence_gap", "aurc", "e_aurc", "augrc")
"""The metrics of a summary, in the order of its table."""
EVALUATION = (*SUMMARY, "failure_auroc")
"""Those of one model's predictions. Models of different accuracy have different errors to find, so that their AUROCs of
failure say nothing of which is better."""


def factory_of(name: str, **options: object) -> Callable[..., Statistic]:
    """What makes the statistic of a metric; a ValueError for an unknown metric or for options that it does not take."""
    metric = CATALOGUE.get(name)
    if metric is None or metric.statistic is None:
        raise ValueError(f"metric must be one of {', '.join(map(repr, CATALOGUE))}, not {name!r}.")
    unknown = sorted(set(options) - set(list(inspect.signature(metric.statistic).parameters)[1:]))
    if unknown:
        raise ValueError(f"{name} does not take the options {unknown}.")
    return partial(metric.statistic, **options)
