"""Confidence intervals by resampling examples: percentile, BCa, and the inversion that distances need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from .inputs import Floats, Predictions, Rows, Value
from .statistic import Signed, Statistic

Method = Literal["auto", "percentile", "bca", "inversion"]


@dataclass(frozen=True)
class Interval:
    """How to make an interval; ``interval=0.95`` is short for ``Interval(0.95)``.

    Args:
        level: in (0, 1).
        method: "percentile" takes quantiles of the metric over resamples; "bca" corrects them for bias and
            acceleration (Efron 1987); "inversion" keeps every size of miscalibration under which the observed distance
            would not be unusual (Carpenter 1999), with the gaps of the bins where they are most likely for that size
            (DiCiccio and Romano 1990); its upper end is that for equal gaps everywhere, if that is higher. "auto" is
            "inversion" for distances from calibration (ECE, KS, smooth ECE), which the other two get wrong near 0,
            and "percentile" for everything else.
        resamples: bootstrap draws of the N examples, ≥ 100.
        seed: of the draws; the same seed gives every metric the same draws.
    """

    level: float = 0.95
    method: Method = "auto"
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"interval must be a level between 0 and 1, such as 0.95, not {self.level!r}.")
        if self.method not in ("auto", "percentile", "bca", "inversion"):
            raise ValueError(f"method must be 'auto', 'percentile', 'bca' or 'inversion', not {self.method!r}.")
        if self.resamples < 100:
            raise ValueError(f"resamples must be at least 100, not {self.resamples!r}.")


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval: ``low`` ≤ truth ≤ ``high`` at the `level`, and the method in words.

    For a distance from calibration `value` is biased upwards and may lie above its own interval, which is not.
    """

    value: float
    low: float
    high: float
    level: float
    method: str

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def measured(rows: Predictions, statistic: Statistic, interval: float | Interval | None) -> Value:
    """The value as it is, or an `Estimate` where an interval is asked for."""
    if interval is None:
        return rows.out(statistic.value)
    return estimates(rows, [statistic], interval)[0]


def estimates(rows: Rows, statistics: Sequence[Statistic], interval: float | Interval) -> list[Estimate]:
    """Intervals for several statistics of the same rows, from the same draws."""
    how = interval if isinstance(interval, Interval) else Interval(interval)
    methods = [_method(s, how.method) for s in statistics]
    plain = np.empty((len(statistics), how.resamples))
    sums: list[list[Floats]] = [[] for _ in statistics]
    for draw, counts in enumerate(resampled_counts(rows, how)):
        for j, (statistic, method) in enumerate(zip(statistics, methods, strict=True)):
            if method == "inversion":
                assert statistic.signed is not None
                sums[j].append(statistic.signed.sums(counts))
            else:
                plain[j, draw] = statistic.weighted(counts)
    found = []
    for j, (statistic, method) in enumerate(zip(statistics, methods, strict=True)):
        if method == "inversion":
            assert statistic.signed is not None
            low, high = _inversion(statistic.signed, np.stack(sums[j]), how.level)
        else:
            shares = _percentiles(rows, statistic, plain[j], how.level, method)
            low, high = (float(v) for v in _quantile(plain[j], shares))
        kept = "" if rows.weight is None else f" kept as sums in {rows.rows} cells"
        words = f"{_WORDS[method]}, {how.resamples} resamples of {rows.examples} examples{kept}"
        found.append(Estimate(statistic.value, low, high, how.level, words))
    return found


_WORDS = {
    "percentile": "percentile bootstrap",
    "bca": "BCa bootstrap",
    "inversion": "inverted bootstrap test",
}


def percentile_estimate(value: float, draws: Floats, rows: Rows, how: Interval) -> Estimate:
    """The percentile interval of draws that are made already."""
    tail = (1.0 - how.level) / 2.0
    low, high = (float(v) for v in _quantile(draws, (tail, 1.0 - tail)))
    words = f"{_WORDS['percentile']}, {how.resamples} resamples of {rows.examples} examples"
    return Estimate(float(value), low, high, how.level, words)


def resampled_counts(rows: Rows, how: Interval) -> Iterator[Floats]:
    """How often each row is drawn, [M], once per resample; the rows of one example are drawn together.

    Rows that stand for several predictions are drawn as often as that many independent Poisson numbers add up to.
    """
    rng = np.random.default_rng(how.seed)
    if rows.weight is not None:
        for _ in range(how.resamples):
            counts = rng.poisson(rows.weight).astype(np.float64)
            yield counts if counts.any() else rows.weight
        return
    for _ in range(how.resamples):
        drawn = rng.integers(0, rows.examples, rows.examples)
        counts = np.bincount(drawn, minlength=rows.examples).astype(np.float64)
        counts = counts if rows.example is None else counts[rows.example]
        # With ignored positions a resample could hold only examples without a row; it is no sample at all.
        yield counts if counts.any() else np.ones(rows.rows)


def share_interval(share: Floats, count: Floats, level: float) -> tuple[Floats, Floats]:
    """Wilson's interval of shares among `count` independent trials each (Wilson 1927)."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, such as 0.95, not {level!r}.")
    z = NormalDist().inv_cdf(0.5 + level / 2.0)
    middle = share + z * z / (2.0 * count)
    half = z * np.sqrt(share * (1.0 - share) / count + (z / (2.0 * count)) ** 2)
    scale = 1.0 + z * z / count
    # At a share of 0 or 1 the two terms cancel to the share itself, up to a rounding.
    return np.minimum((middle - half) / scale, share), np.maximum((middle + half) / scale, share)


def _method(statistic: Statistic, method: Method) -> str:
    if method == "auto":
        return "percentile" if statistic.signed is None else "inversion"
    if method == "inversion" and statistic.signed is None:
        raise ValueError("method='inversion' is for distances from calibration (ECE, KS, smooth ECE), not this metric.")
    return method


def _percentiles(rows: Rows, statistic: Statistic, draws: Floats, level: float, method: str) -> tuple[float, float]:
    """Which quantiles of the draws to take."""
    tail = (1.0 - level) / 2.0
    if method == "percentile":
        return tail, 1.0 - tail
    if rows.weight is not None:
        raise ValueError("method='bca' needs every prediction, which are kept as sums here; use 'percentile'.")
    if statistic.influence is None:
        raise ValueError("method='bca' needs influence values, which this metric does not have; use 'percentile'.")
    normal = NormalDist()
    below = float((draws < statistic.value).mean() + (draws == statistic.value).mean() / 2.0)
    if not 0.0 < below < 1.0:  # the draws are all on one side: no correction can be estimated from them
        return tail, 1.0 - tail
    bias = normal.inv_cdf(below)
    deviation = per_example(rows, statistic.influence())
    deviation = deviation - deviation.mean()
    squares = float((deviation**2).sum())
    acceleration = float((deviation**3).sum()) / (6.0 * squares**1.5) if squares > 0 else 0.0

    def share(z: float) -> float:
        return normal.cdf(bias + (bias + z) / (1.0 - acceleration * (bias + z)))

    return share(normal.inv_cdf(tail)), share(normal.inv_cdf(1.0 - tail))


def _inversion(signed: Signed, draws: Floats, level: float) -> tuple[float, float]:
    """The sizes T(θ) of true gaps θ under which the observed T(S) is inside its central `level`.

    Under gaps θ the observed distance is distributed as T(θ + noise), noise = draws - S from the bootstrap. At θ = 0
    that is a calibrated model of this sample size, so noise alone is not taken for miscalibration. How much chance
    adds to a size depends on how the gaps are spread: most where they sit in few bins, least where all are equal.
    """
    observed = signed.observed
    value, noise = float(signed.distance(observed)), draws - observed
    tail = (1.0 - level) / 2.0
    shapes = _shapes(signed, observed, noise)
    low = _size(signed, shapes[0], noise, value, 1.0 - tail)
    return low, max(_size(signed, shape, noise, value, tail) for shape in shapes)


def _shapes(signed: Signed, observed: Floats, noise: Floats) -> list[Callable[[float], Floats]]:
    """Families of gaps θ(t) with T(θ(t)) rising from 0: the most likely ones of each size first, then the even ones.

    For a sum of |S_d| the likelihood under the constraint Σ|θ_d| = τ is greatest on the path of soft thresholds in
    units of the variance. For other distances the observed gaps times t stand for it.
    """
    shapes: list[Callable[[float], Floats]] = [lambda t: t * observed]
    variance = noise.var(axis=0)
    if signed.even is None or not variance.any():
        return shapes
    even = signed.even * np.sign(observed if signed.separable else observed @ signed.even)
    if signed.separable:
        # A bin without an error in it has no spread in the resamples; it is not for that known exactly.
        variance = np.maximum(variance, 0.01 * variance[signed.even > 0].mean())
        sign, size = np.sign(observed), np.abs(observed)
        top = float((size / variance).max())
        shapes = [lambda t: np.asarray(sign * np.maximum(size - top * (1.0 - t) * variance, 0.0))]
    # In the size of the observed gaps, so that t = 1 is about the answer here, too.
    scale = float(signed.distance(observed)) / max(float(signed.distance(even)), 1e-300)
    return [*shapes, lambda t: t * scale * even]


def _size(signed: Signed, shape: Callable[[float], Floats], noise: Floats, value: float, share: float) -> float:
    """The T(θ(t)) at which `share` of the draws T(θ(t) + noise) are below the observed value."""

    def quantile(t: float) -> float:
        return float(np.quantile(signed.distance(shape(t) + noise), share, method="weibull"))

    if value == 0.0 or quantile(0.0) >= value:
        return 0.0
    left, right = 0.0, 1.0
    while quantile(right) < value and right < 1e3:
        left, right = right, 2.0 * right
    for _ in range(13):
        middle = (left + right) / 2.0
        left, right = (middle, right) if quantile(middle) < value else (left, middle)
    return float(signed.distance(shape((left + right) / 2.0)))


def _quantile(draws: Floats, shares: Sequence[float]) -> Floats:
    # Infinite values (an NLL of a label with probability 0) would make NaN when interpolated.
    # Of R draws the α(R + 1)-th is the quantile that R + 1 exchangeable values are below with probability α.
    method = "weibull" if np.isfinite(draws).all() else "inverted_cdf"
    return np.asarray(np.quantile(draws, np.clip(shares, 0.0, 1.0), method=method))  # type: ignore[call-overload]


def per_example(rows: Rows, values: Floats) -> Floats:
    """Row values [M] as example values [N] of the same mean: an example counts for as many rows as it has."""
    if rows.example is None:
        return values
    mean = values.mean()
    # The derivative of Σ_rows ψ / M with respect to an example's weight, M itself included.
    deviation = np.bincount(rows.example, weights=values - mean, minlength=rows.examples)
    return np.asarray(mean + deviation * (rows.examples / rows.rows), dtype=np.float64)
