"""Intervals of shares: Clopper and Pearson's, which is exact, and Wilson's, which is narrower."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from labelsmooth.metrics.rows import Floats


def wilson(share: Floats, count: Floats, level: float) -> tuple[Floats, Floats]:
    """Wilson's interval of shares among `count` independent trials each (Wilson 1927)."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, such as 0.95, not {level!r}.")
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    middle = share + z * z / (2.0 * count)
    half = z * np.sqrt(share * (1.0 - share) / count + (z / (2.0 * count)) ** 2)
    scale = 1.0 + z * z / count
    # At a share of 0 or 1 the two terms cancel to the share itself, up to a rounding.
    return np.minimum((middle - half) / scale, share), np.maximum((middle + half) / scale, share)


def clopper_pearson(successes: float, trials: float, level: float) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934); the numbers may be effective ones, not whole.

    Korn and Graubard (1998) use it so for samples of clusters.
    """
    tail = (1.0 - level) / 2.0
    failures = trials - successes
    low = 0.0 if successes <= 0.0 else beta_quantile(tail, successes, failures + 1.0)
    high = 1.0 if failures <= 0.0 else beta_quantile(1.0 - tail, successes + 1.0, failures)
    return low, high


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x at which the beta distribution function is `probability`."""
    return sum(bisected(0.0, 1.0, lambda x: beta_cdf(x, a, b) < probability, 60)) / 2.0


def bisected(inside: float, outside: float, is_inside: Callable[[float], bool], steps: int) -> tuple[float, float]:
    """The two ends of a bracket after bisection, the first of which is inside."""
    for _ in range(steps):
        middle = (inside + outside) / 2.0
        inside, outside = (middle, outside) if is_inside(middle) else (inside, middle)
    return inside, outside


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    if x > (a + 1.0) / (a + b + 2.0):  # the fraction converges fast below the mean
        return 1.0 - beta_cdf(1.0 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0)),
        ):
            d = 1.0 + numerator * d
            c = 1.0 + numerator / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return math.exp(log_front) * value / a
