"""The ECE of one run as a study reports it: without the upward bias of its bins, with its interval and its floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelsmooth.metrics import ece, reliability_curve

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationError:
    """The ECE of one model on one test part.

    Attributes:
        plug_in: as the bins have it, too high by chance.
        debiased: the size of the gaps whose plug-in value would be the observed one on average; 0 where the observed
            value is no larger than that of a perfectly calibrated model.
        floor: what a perfectly calibrated model with these confidences would show on average.
    """

    plug_in: float
    debiased: float
    floor: float


def ece_interval(probabilities: Floats, labels: NDArray[np.int64]) -> tuple[float, float]:
    """The 95% interval over test examples: the inverted bootstrap test of :class:`labelsmooth.metrics.Interval`."""
    interval = ece(probabilities, labels, interval=0.95)
    return interval.low, interval.high


def calibration_error(probabilities: Floats, labels: NDArray[np.int64]) -> CalibrationError:
    r"""The ECE with 15 bins of equal mass, debiased.

    With sizes :math:`|g_b|` of the gaps between confidence and accuracy in bins of :math:`n_b` of N examples, and
    :math:`\sigma_b^2` the variance of the accuracy, the debiased value is :math:`\sum_b n_b \theta_b / N`. The
    :math:`\theta_b` are the sizes, shrunk towards their mean as far as chance spreads them, and scaled so that

    .. math:: \sum_b \frac{n_b}{N} E|\theta_b + \sigma_b Z| = \sum_b \frac{n_b}{N} |g_b|, \qquad Z \sim N(0, 1).

    A bin's accuracy is smoothed by one example at its confidence, so that a bin without an error has a variance.  The
    floor is the mean absolute deviation of binomial counts, in closed form (De Moivre 1730).

    Args:
        probabilities: [N, K].
        labels: [N].
    """
    curve = reliability_curve(probabilities, labels, bins=15, binning="equal-mass")
    full = curve.count > 0
    count, confidence, accuracy = (np.asarray(v, float)[full] for v in (curve.count, curve.confidence, curve.accuracy))
    share, size = count / count.sum(), np.abs(confidence - accuracy)
    plug_in = float(share @ size)
    smoothed = (count * accuracy + confidence) / (count + 1)
    deviation = np.sqrt(smoothed * (1 - smoothed) / count)
    shape = _shrunk(size, deviation, share)
    low, high = 0.0, plug_in
    for _ in range(40):
        middle = (low + high) / 2
        below = float(share @ _folded(middle * shape, deviation)) < plug_in
        low, high = (middle, high) if below else (low, middle)
    return CalibrationError(plug_in, low, float(share @ _absolute(count, confidence)))


def _shrunk(size: Floats, deviation: Floats, share: Floats) -> Floats:
    """The sizes of the gaps, shrunk towards their mean, in units of it."""
    mean = float(share @ size)
    between = max(float(share @ ((size - mean) ** 2 - (1 - share) * deviation**2)), 0.0)
    shrunk = mean + between / np.maximum(between + deviation**2, 1e-300) * (size - mean)
    return np.asarray(shrunk / (share @ shrunk)) if mean > 0 else np.ones_like(size)


def _folded(mean: Floats, deviation: Floats) -> Floats:
    """E|X| for X ~ N(mean, deviation²)."""
    from scipy.special import ndtr

    z = np.minimum(mean / np.maximum(deviation, 1e-300), 40.0)  # beyond, the exponential is 0 in any precision
    return np.asarray(deviation * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + mean * (1 - 2 * ndtr(-z)))


def _absolute(count: Floats, confidence: Floats) -> Floats:
    """E|X / n - p| for X ~ Binomial(n, p)."""
    from scipy.stats import binom

    p = np.clip(confidence, 0.0, 1.0)
    at = np.minimum(np.floor(count * p) + 1, count)
    return np.asarray(2 * (1 - p) * at * binom.pmf(at, count, p) / count)
