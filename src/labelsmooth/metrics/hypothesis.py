"""Tests of calibration: how surprising these labels are if the probabilities are right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from labelsmooth.metrics.binning import into_bins, sum_by
from labelsmooth.metrics.calibration_error import binned_distance, check_options, one_question
from labelsmooth.metrics.inputs import read
from labelsmooth.metrics.metric import Binning, Norm, Scope
from labelsmooth.metrics.rows import Array, Floats
from labelsmooth.metrics.smooth import CumulativeGap, SmoothGrid, fixed_point


@dataclass(frozen=True)
class TestResult:
    """The statistic of a test and its p-value; the method in words."""

    statistic: float
    p_value: float
    method: str

    __test__ = False  # not a test case


def spiegelhalter_test(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    scope: Scope = "top-label",
    ignore_index: int | None = None,
) -> TestResult:
    r"""Spiegelhalter's z: is the Brier score what calibrated probabilities would give?

    .. math:: z = \frac{\sum_i (y_i - p_i)(1 - 2 p_i)}{\big(\sum_i (1 - 2 p_i)^2 p_i (1 - p_i)\big)^{1/2}}

    with p the confidence and y whether it was right (or p_k and y = k, for ``scope=k``). z is standard normal under
    calibration. It sees errors in the sharpness of the probabilities, and none that leave the Brier score as it is.

    Args:
        probabilities, labels, logits, scope, ignore_index: as in :func:`ks`.

    Returns:
        A :class:`TestResult`, two-sided. A negative z is a Brier score better than claimed: under-confidence where
        p > 1/2. Where every p is 0, 1/2 or 1 there is nothing random to test: p_value is then 1 if nothing was
        wrong and 0 otherwise.

    Raises:
        ValueError: as in :func:`ks`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> p = rng.random(5_000)
        >>> bool(spiegelhalter_test(p, (rng.random(5_000) < p).astype(int), scope=1).p_value > 0.05)
        True

    Source: Spiegelhalter (1986).
    """
    rows = read(probabilities, labels, logits, ignore_index)
    p, y = one_question(rows, scope)
    score, variance = float(((y - p) * (1 - 2 * p)).sum()), float(((1 - 2 * p) ** 2 * p * (1 - p)).sum())
    certain = 0.0 if score == 0.0 else math.copysign(math.inf, score)
    z = score / math.sqrt(variance) if variance > 0.0 else certain
    return TestResult(z, math.erfc(abs(z) / math.sqrt(2.0)), "Spiegelhalter's z, two-sided normal p-value")


def consistency_test(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    metric: Literal["ece", "ks", "smooth_ece"] = "ece",
    bins: int = 15,
    binning: Binning = "equal-mass",
    norm: Norm = "l1",
    scope: Scope = "top-label",
    resamples: int = 1000,
    seed: int = 0,
    ignore_index: int | None = None,
) -> TestResult:
    r"""Consistency resampling: the share of calibrated worlds in which the metric would be as large as it is here.

    Labels are drawn anew from the probabilities themselves (whether the predicted class is right with the
    probability that is claimed for it), and the metric computed, `resamples` times.

    .. math:: p = \frac{1 + \#\{r : T_r \ge T\}}{1 + R}

    Args:
        probabilities, labels, logits, scope, ignore_index: as in :func:`ks` ("class-wise" is refused).
        metric: "ece", "ks" or "smooth_ece".
        bins, binning, norm: of the ECE.
        resamples: R ≥ 99.
        seed: of the draws.

    Returns:
        A :class:`TestResult` with the metric as its statistic; p_value is uniform for a calibrated model.

    Raises:
        ValueError: as in :func:`ece`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> p = rng.random(2_000)
        >>> y = (rng.random(2_000) < p).astype(int)
        >>> consistency_test(p, y, scope=1).p_value > 0.05, consistency_test(p**2, y, scope=1).p_value < 0.01
        (True, True)

    Source: Bröcker and Smith (2007); Vaicenavicius et al. (2019).
    """
    if metric not in ("ece", "ks", "smooth_ece"):
        raise ValueError(f"metric must be 'ece', 'ks' or 'smooth_ece', not {metric!r}.")
    if resamples < 99:
        raise ValueError(f"resamples must be at least 99, not {resamples!r}.")
    rows = read(probabilities, labels, logits, ignore_index)
    p, y = one_question(rows, scope)
    distance = _distance(metric, p, bins, binning, norm)
    observed = distance(y)
    rng = np.random.default_rng(seed)
    # Confidences that went through float32 may exceed 1 by a rounding.
    chance = np.clip(p, 0.0, 1.0)
    drawn = np.array([distance((rng.random(len(p)) < chance).astype(np.float64)) for _ in range(resamples)])
    # The slack keeps sums that differ by their rounding alone together.
    share = (1 + int((drawn >= observed * (1.0 - 1e-12)).sum())) / (1 + resamples)
    return TestResult(observed, share, f"consistency resampling of {metric}, {resamples} calibrated worlds")


def _distance(metric: str, p: Floats, bins: int, binning: Binning, norm: Norm) -> Callable[[Floats], float]:
    """The metric as a function of what was right; bins, order and grid depend on the confidences alone."""
    ones = np.ones(len(p))
    if metric == "ks":
        process = CumulativeGap(p)
        return lambda y: float(np.abs(process(ones, p - y)).max())
    if metric == "smooth_ece":
        grid = SmoothGrid(p)
        return lambda y: fixed_point(grid.cells(ones, p - y))
    check_options(bins, binning, norm)
    binned = into_bins(p, ones, bins, binning)
    share = binned.count / len(p)

    def ece_of(y: Floats) -> float:
        sums = sum_by(binned.index, p - y, len(share)) / len(p)
        return float(binned_distance(sums, share, norm, 1))

    return ece_of
