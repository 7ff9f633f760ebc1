"""Confidence intervals that hold with few rows and few errors: exact, bootstrap and test inversion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np

from labelsmooth.errors import plural
from labelsmooth.metrics.binomial import clopper_pearson
from labelsmooth.metrics.inversion import inversion
from labelsmooth.metrics.rows import Floats, Rows, with_errors
from labelsmooth.metrics.statistic import Statistic, weights_of

Method = Literal["auto", "percentile", "bca", "inversion"]


@dataclass(frozen=True)
class Interval:
    """How to make an interval; ``interval=0.95`` is short for ``Interval(0.95)``.

    Args:
        level: in (0, 1).
        method: "auto" chooses by the metric. Shares (error, confidence gap): Clopper and Pearson's exact interval, with
            an effective number of rows for the gap and for dense examples. Distances from calibration (ECE, KS, smooth
            ECE): "inversion". All others: percentiles over resamples of the examples, and over resamples with two wrong
            answers added, whichever reach further (Agresti and Coull 1998): a sample without errors does not show that
            there are none.
            "percentile" takes quantiles of the metric over resamples alone; "bca" corrects them for bias and
            acceleration (Efron 1987). "inversion" keeps every size of miscalibration under which the observed distance
            would not be unusual (Carpenter 1999), where right and wrong answers are drawn anew for each size.
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


Level: TypeAlias = "float | Interval"


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval: ``low`` ≤ truth ≤ ``high`` at the `level`, the method in words, and its examples.

    For a distance from calibration `value` is biased upwards and may lie above its own interval, which is not.
    """

    value: float
    low: float
    high: float
    level: float
    method: str
    examples: int

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


Factory = Callable[[Rows], Statistic]
"""Makes the statistic of any rows."""


def estimates(rows: Rows, factories: Sequence[Factory], interval: float | Interval) -> list[Estimate]:
    """Intervals for several statistics of the same rows, from the same draws."""
    settings = interval if isinstance(interval, Interval) else Interval(interval)
    statistics = [factory(rows) for factory in factories]
    methods = [_method(statistic, settings.method) for statistic in statistics]
    ends = [_ends(rows, s, method, settings) for s, method in zip(statistics, methods, strict=True)]
    drawn = [j for j, method in enumerate(methods) if method in ("percentile", "bca", "two errors")]
    if drawn:
        draws = np.array(
            [[statistics[j].weighted(counts) for j in drawn] for counts in resampled_counts(rows, settings)]
        ).T
        for j, values in zip(drawn, draws, strict=True):
            shares = _percentiles(rows, statistics[j], values, settings.level, methods[j])
            low, high = _quantile(values, shares)
            ends[j] = (low, high)
    added = [j for j, method in enumerate(methods) if method == "two errors"]
    if added:
        tail = (1.0 - settings.level) / 2.0
        pairs = [(factories[j], statistics[j]) for j in added]
        for j, values in zip(added, _draws_with_errors(rows, pairs, settings), strict=True):
            low, high = _quantile(values, (tail, 1.0 - tail))
            ends[j] = min(ends[j][0], low), max(ends[j][1], high)
    kept = "" if rows.weight is None else f" kept as sums in {rows.rows:,} cells"
    return [
        Estimate(
            statistic.value,
            float(low),
            float(high),
            settings.level,
            _WORDS[method].format(resamples=settings.resamples, examples=plural(rows.examples, "example"), kept=kept),
            rows.examples,
        )
        for statistic, method, (low, high) in zip(statistics, methods, ends, strict=True)
    ]


_WORDS = {
    "exact": "exact binomial (Clopper-Pearson), {examples}{kept}",
    "percentile": "percentile bootstrap, {resamples:,} resamples of {examples}{kept}",
    "bca": "BCa bootstrap, {resamples:,} resamples of {examples}{kept}",
    "two errors": "percentile bootstrap with two errors added, {resamples:,} resamples of {examples}{kept}",
    "inversion": "inverted test, {resamples:,} resamples of {examples}{kept}",
}


def _method(statistic: Statistic, method: Method) -> str:
    if method == "auto":
        return "exact" if statistic.rate is not None else "two errors" if statistic.signed is None else "inversion"
    if method == "inversion" and statistic.signed is None:
        raise ValueError("method='inversion' is for distances from calibration (ECE, KS, smooth ECE), not this metric.")
    return method


def _ends(rows: Rows, statistic: Statistic, method: str, settings: Interval) -> tuple[float, float]:
    """The ends of an interval that is not made of resamples of the rows."""
    if method == "exact":
        return _exact(rows, statistic, settings.level)
    if method == "inversion":
        assert statistic.signed is not None
        return inversion(statistic.signed(), _design_effect(rows), settings.level, settings.resamples, settings.seed)
    return 0.0, 0.0


def _exact(rows: Rows, statistic: Statistic, level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of the share of errors, shifted by the mean of the offset.

    The offset changes the variance: confident rows err less. The number of trials is divided by the ratio of the two
    variances, both with two errors added at a typical doubtful row: without any error it would not be known.
    """
    rate, weight = statistic.rate, weights_of(rows)
    assert rate is not None
    size = float(weight.sum())
    share = float((weight * rate).sum() / size)
    offset = np.broadcast_to(np.asarray(statistic.offset, dtype=np.float64), rate.shape)
    doubt = np.clip(-offset, 1e-12, 1.0) * weight  # the offset is confidence - 1, or 0
    shift, at_error = float((weight * offset).sum() / size), float((doubt * offset).sum() / doubt.sum())
    # Two wrong answers and two right ones are added.
    ratio = _variance(rate + offset, weight, (1.0 + at_error, shift)) / _variance(rate, weight, (1.0, 0.0))
    trials = size / (ratio * _design_effect(rows))
    low, high = clopper_pearson(share * trials, trials, level)
    return shift + low, shift + high


def _variance(values: Floats, weight: Floats, added: tuple[float, float]) -> float:
    """The variance of weighted values with two more of each of the added ones."""
    extended, weights = np.append(values, added), np.append(weight, (2.0, 2.0))
    mean = np.average(extended, weights=weights)
    return float(np.average((extended - mean) ** 2, weights=weights))


def _design_effect(rows: Rows) -> float:
    """By how much the examples' several rows inflate the variance of the mean of confidence - correct; at least 1."""
    if rows.example is None:
        return 1.0
    difference = rows.confidence - rows.correct
    per_row = rows.rows / rows.examples
    if not rows.correct.min() < 1.0:  # without an error the rows of an example may all go the same way
        return per_row
    variance = float(per_example(rows, difference).var()) / rows.examples
    alone = float(difference.var()) / rows.rows
    return min(max(variance / alone, 1.0), per_row) if alone > 0.0 else per_row


def _draws_with_errors(rows: Rows, pairs: list[tuple[Factory, Statistic]], settings: Interval) -> Floats:
    """The statistics [S, R] over resamples of the examples to which about two wrong answers are added."""
    rng = np.random.default_rng([settings.seed, 1])
    extended = with_errors(rows, rng)
    statistics = []
    for factory, statistic in pairs:
        if statistic.rows is None or statistic.rows is rows:
            statistics.append(factory(extended))
        else:  # the same copies, with the order of the score
            statistics.append(factory(with_errors(statistic.rows, np.random.default_rng([settings.seed, 1]))))
    drawn = with_two_errors(rows, settings, rng, extended.rows - rows.rows)
    return np.array([[statistic.weighted(counts) for statistic in statistics] for counts in drawn]).T


def with_two_errors(rows: Rows, settings: Interval, rng: np.random.Generator, copies: int) -> Iterator[Floats]:
    """:func:`resampled_counts`, and then how often each wrong copy is added: about two in all."""
    per_row = rows.rows / rows.examples if rows.example is not None else 1.0
    for counts in resampled_counts(rows, settings):
        errors = np.bincount(rng.integers(0, copies, rng.poisson(2.0)), minlength=copies) * per_row
        yield np.concatenate([counts, errors])


def share_estimate(successes: int, trials: int, level: float) -> Estimate:
    """A share with its exact interval; NaN, from 0 to 1, of no trials."""
    low, high = clopper_pearson(successes, trials, level) if trials else (0.0, 1.0)
    value = successes / trials if trials else float("nan")
    return Estimate(value, low, high, level, "exact binomial (Clopper-Pearson)", trials)


def percentile_estimate(value: float, draws: Sequence[Floats], examples: int, settings: Interval) -> Estimate:
    """The percentile interval of draws that are made already: of several kinds, whichever reach further."""
    tail = (1.0 - settings.level) / 2.0
    ends = np.array([_quantile(drawn, (tail, 1.0 - tail)) for drawn in draws])
    words = f"percentile bootstrap, {settings.resamples:,} resamples of {plural(examples, 'example')}"
    return Estimate(float(value), float(ends[:, 0].min()), float(ends[:, 1].max()), settings.level, words, examples)


def resampled_counts(rows: Rows, settings: Interval) -> Iterator[Floats]:
    """How often each row is drawn, [M], once per resample; the rows of one example are drawn together.

    Rows that stand for several predictions are drawn as often as that many independent Poisson numbers add up to.
    """
    rng = np.random.default_rng(settings.seed)
    if rows.weight is not None:
        for _ in range(settings.resamples):
            counts = rng.poisson(rows.weight).astype(np.float64)
            yield counts if counts.any() else rows.weight
        return
    for _ in range(settings.resamples):
        drawn = rng.integers(0, rows.examples, rows.examples)
        counts = np.bincount(drawn, minlength=rows.examples).astype(np.float64)
        counts = counts if rows.example is None else counts[rows.example]
        # With ignored positions a resample could hold only examples without a row; it is no sample at all.
        yield counts if counts.any() else np.ones(rows.rows)


def _percentiles(rows: Rows, statistic: Statistic, draws: Floats, level: float, method: str) -> tuple[float, float]:
    """Which quantiles of the draws to take."""
    tail = (1.0 - level) / 2.0
    if method != "bca":
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


def _quantile(draws: Floats, shares: Sequence[float]) -> Floats:
    known = draws[~np.isnan(draws)]  # a resample without an error has no AUROC
    if not len(known):
        return np.full(len(shares), np.nan)
    # Infinite values (an NLL of a label with probability 0) would make NaN when interpolated.
    # Of R draws the α(R + 1)-th is the quantile that R + 1 exchangeable values are below with probability α.
    method = "weibull" if np.isfinite(known).all() else "inverted_cdf"
    return np.asarray(np.quantile(known, np.clip(shares, 0.0, 1.0), method=method))  # type: ignore[call-overload]


def per_example(rows: Rows, values: Floats) -> Floats:
    """Row values [M] as example values [N] of the same mean: an example counts for as many rows as it has."""
    if rows.example is None:
        return values
    mean = values.mean()
    # The derivative of Σ_rows ψ / M with respect to an example's weight, M itself included.
    deviation = np.bincount(rows.example, weights=values - mean, minlength=rows.examples)
    return np.asarray(mean + deviation * (rows.examples / rows.rows), dtype=np.float64)
