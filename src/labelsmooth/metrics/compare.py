"""The difference of two models on the same examples, with an interval and a p-value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from .catalogue import statistic_of
from .cells import PairedCells
from .inputs import Array, Floats, Rows, read
from .interval import Interval, resampled_counts
from .statistic import Statistic
from .summary import statistics


@dataclass(frozen=True)
class Difference:
    """first - second of a metric on the same examples: its interval, and the p-value of there being none."""

    value: float
    low: float
    high: float
    p_value: float
    first: float
    second: float
    level: float
    method: str


def compare(
    metric: str,
    first: Array,
    second: Array,
    labels: Array,
    *,
    scores: Literal["probabilities", "logits"] = "probabilities",
    interval: float | Interval = 0.95,
    ignore_index: int | None = None,
    **options: Any,
) -> Difference:
    r"""Compare two models by a metric on the same examples, paired: each resample draws examples for both.

    .. math:: \Delta = M(\text{first}) - M(\text{second}), \qquad
              p = 2 \min\Big(\tfrac{1 + \#\{\Delta^*_r \le 0\}}{1 + R}, \tfrac{1 + \#\{\Delta^*_r \ge 0\}}{1 + R}\Big)

    What both models find hard cancels, so the interval is much narrower than two separate ones would suggest.

    Args:
        metric: "error", "nll", "brier", "ece", "debiased_ece", "smooth_ece", "ks", "confidence_gap",
            "over_confidence", "under_confidence", "aurc" or "e_aurc".
        first, second: predictions of the two models, of the same shape, as for the metric itself.
        labels: of both.
        scores: whether the predictions are "probabilities" or "logits"; never guessed.
        interval: a level, or an :class:`Interval` with the method "auto" or "percentile".
        ignore_index: positions with this label are left out.
        **options: of the metric.

    Returns:
        A :class:`Difference`; below 0 the first model has the lower value. For the ECE both values are biased
        upwards by about the same amount, which cancels where the models are similarly calibrated.

    Raises:
        ValueError: as in the metric, or where the shapes differ.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(2_000, 5))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> found = compare("nll", z, 3 * z, y, scores="logits")
        >>> found.high < 0, found.p_value < 0.01
        (True, True)

    Source: Efron and Tibshirani (1993), chapter 16.
    """
    if scores not in ("probabilities", "logits"):
        raise ValueError(f"scores must be 'probabilities' or 'logits', not {scores!r}.")
    how = interval if isinstance(interval, Interval) else Interval(interval)
    if how.method not in ("auto", "percentile"):
        raise ValueError(f"method must be 'auto' or 'percentile' for a difference, not {how.method!r}.")
    if tuple(first.shape) != tuple(second.shape):
        raise ValueError(f"first has shape {tuple(first.shape)} and second {tuple(second.shape)}: they must be equal.")
    pair = [
        read(p, labels, ignore_index=ignore_index) if scores == "probabilities" else read(None, labels, p, ignore_index)
        for p in (first, second)
    ]
    one, two = (statistic_of(metric, rows, **options) for rows in pair)
    return difference(one, two, pair[0], how)


def difference(one: Statistic, two: Statistic, rows: Rows, how: Interval) -> Difference:
    """:func:`compare` of two statistics of the same examples."""
    draws = np.array([one.weighted(counts) - two.weighted(counts) for counts in resampled_counts(rows, how)])
    method = f"paired percentile bootstrap, {how.resamples} resamples of {rows.examples} examples"
    return _percentile(one, two, draws, how.level, method)


def cells_differences(pair: PairedCells, how: Interval) -> dict[str, Difference]:
    """Every metric's difference between two models whose predictions are kept as sums.

    Means have a normal interval from the variance of the examples' differences; the others are resampled by group.
    """
    one, two = (statistics(cells.rows()) for cells in pair.both)
    others = [name for name in one if name not in pair.MEANS]
    draws = np.array(
        [
            [one[name].weighted(a) - two[name].weighted(b) for name in others]
            for a, b in pair.resampled(how.resamples, how.seed)
        ]
    )
    method = f"paired percentile bootstrap, {how.resamples} resamples of random groups of {pair.rows} examples"
    found = {
        name: _percentile(one[name], two[name], d, how.level, method) for name, d in zip(others, draws.T, strict=True)
    }
    mean, square = pair.sums / pair.rows
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.maximum(square - mean**2, 0.0) / pair.rows)
    far = NormalDist().inv_cdf(0.5 + how.level / 2.0)
    for j, name in enumerate(pair.MEANS):
        value, se = float(mean[j]), float(error[j])
        p_value = math.erfc(abs(value) / se / math.sqrt(2.0)) if se > 0.0 else float(value == 0.0)
        found[name] = Difference(
            value,
            value - far * se,
            value + far * se,
            p_value,
            one[name].value,
            two[name].value,
            how.level,
            f"normal, from the variance of {pair.rows} paired differences",
        )
    return {name: found[name] for name in one}


def _percentile(one: Statistic, two: Statistic, draws: Floats, level: float, method: str) -> Difference:
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail], method="weibull")
    below, above = (1 + int((draws <= 0).sum())) / (1 + len(draws)), (1 + int((draws >= 0).sum())) / (1 + len(draws))
    return Difference(
        value=one.value - two.value,
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2.0 * min(below, above)),
        first=one.value,
        second=two.value,
        level=level,
        method=method,
    )
