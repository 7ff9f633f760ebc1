"""The difference of two models on the same examples, with an interval, a p-value and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np

from labelsmooth.errors import plural
from labelsmooth.metrics.catalogue import factory_of
from labelsmooth.metrics.cells import PairedCells
from labelsmooth.metrics.inputs import read_scores
from labelsmooth.metrics.interval import Factory, Interval, resampled_counts
from labelsmooth.metrics.inversion import gaps_of_equal_size
from labelsmooth.metrics.metric import Binning, Norm, Scope, Score
from labelsmooth.metrics.rows import Array, Floats, Rows
from labelsmooth.metrics.statistic import Signed, Statistic, weights_of
from labelsmooth.metrics.summary import factories

FEW_ROWS = 20
"""Below this many examples no two models are compared."""
FEW_ERRORS = 5
"""Nor below this many wrong answers of the two models together."""
Outcome: TypeAlias = Literal["lower", "higher", "no significant difference", "identical", "too few rows", "infinite"]


@dataclass(frozen=True)
class Difference:
    """first - second of a metric on the same examples: its interval, the p-value of there being none, and a verdict.

    The verdict is "lower" or "higher" where the interval excludes 0, "no significant difference", "identical" (the two
    agree on these examples and on every resample), "too few rows" (fewer than 20 examples, or than 5 wrong answers), or
    "infinite" where a label has probability 0.
    """

    value: float
    low: float
    high: float
    p_value: float
    first: float
    second: float
    level: float
    method: str
    verdict: Outcome


def compare(
    metric: str,
    first: Array,
    second: Array,
    labels: Array,
    *,
    scores: Literal["probabilities", "logits"] = "probabilities",
    interval: float | Interval = 0.95,
    ignore_index: int | None = None,
    **options: int | float | Binning | Norm | Scope | Score,
) -> Difference:
    r"""Compare two models by a metric on the same examples, paired: each resample draws examples for both.

    .. math:: \Delta = M(\text{first}) - M(\text{second}), \qquad
              p = 2 \min\Big(\tfrac{1 + \#\{\Delta^*_r \le 0\}}{1 + R}, \tfrac{1 + \#\{\Delta^*_r \ge 0\}}{1 + R}\Big)

    What both models find hard cancels, so the interval is much narrower than two separate ones would suggest. The error
    has McNemar's exact p-value and Bonett and Price's interval. Distances from calibration (ECE, KS, smooth ECE) are
    biased upwards, each by another amount: both values are given without it, and the resamples are drawn around gaps
    of one size.

    Args:
        metric: a name of :data:`labelsmooth.metrics.catalogue.CATALOGUE`, such as "error", "nll" or "ece".
        first, second: predictions of the two models, of the same shape, as for the metric itself.
        labels: of both.
        scores: whether the predictions are "probabilities" or "logits"; never guessed.
        interval: a level, or an :class:`Interval` with the method "auto" or "percentile".
        ignore_index: positions with this label are left out.
        **options: of the metric.

    Returns:
        A :class:`Difference`; below 0 the first model has the lower value.

    Raises:
        ValueError: as in the metric, or where the shapes differ.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(2_000, 5))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> difference = compare("nll", z, 3 * z, y, scores="logits")
        >>> difference.verdict, difference.p_value < 0.01
        ('lower', True)

    Source: Efron and Tibshirani (1993), chapter 16; McNemar (1947); Bonett and Price (2012).
    """
    settings = interval if isinstance(interval, Interval) else Interval(interval)
    if settings.method not in ("auto", "percentile"):
        raise ValueError(f"method must be 'auto' or 'percentile' for a difference, not {settings.method!r}.")
    if tuple(first.shape) != tuple(second.shape):
        raise ValueError(f"first has shape {tuple(first.shape)} and second {tuple(second.shape)}: they must be equal.")
    factory = factory_of(metric, **options)
    one, two = (read_scores(p, labels, scores, ignore_index) for p in (first, second))
    return differences(one, two, settings, {metric: factory})[metric]


def differences(
    first: Rows, second: Rows, settings: Interval, named: dict[str, Factory] | None = None
) -> dict[str, Difference]:
    """:func:`compare` of validated rows of the same examples, for several metrics from the same resamples."""
    named = factories() if named is None else named
    pairs = ((counts, counts) for counts in resampled_counts(first, settings))
    drawn_from = f"{settings.resamples:,} resamples of {plural(first.examples, 'example')}"
    return _differences(first, second, named, pairs, settings.level, drawn_from)


def cells_differences(pair: PairedCells, settings: Interval) -> dict[str, Difference]:
    """Every metric's difference between two models whose predictions are kept as sums.

    Means have a normal interval from the variance of the examples' differences; the others are resampled by group.
    """
    first, second = (cells.rows() for cells in pair.both)
    named = factories()
    others = {name: factory for name, factory in named.items() if name not in pair.MEANS}
    drawn_from = f"{settings.resamples:,} resamples of random groups of {pair.rows:,} examples"
    pairs = pair.resampled(settings.resamples, settings.seed)
    result = _differences(first, second, others, pairs, settings.level, drawn_from)
    mean, square = pair.sums / pair.rows
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.maximum(square - mean**2, 0.0) / pair.rows)
    far = NormalDist().inv_cdf(0.5 + settings.level / 2.0)
    few = _few(first, second)
    for j, name in enumerate(pair.MEANS):
        value, se = float(mean[j]), float(errors[j])
        one, two = named[name](first).value, named[name](second).value
        if not math.isfinite(one) or not math.isfinite(two):
            result[name] = _not_finite(one, two, settings.level)
            continue
        p_value = math.erfc(abs(value) / se / math.sqrt(2.0)) if se > 0.0 else float(value == 0.0)
        method = f"normal, from the variance of {pair.rows:,} paired differences"
        ends = (value - far * se, value + far * se)
        result[name] = Difference(value, *ends, p_value, one, two, settings.level, method, _verdict(*ends, few))
    return {name: result[name] for name in named}


def _differences(
    first: Rows,
    second: Rows,
    named: dict[str, Factory],
    pairs: Iterable[tuple[Floats, Floats]],
    level: float,
    drawn_from: str,
) -> dict[str, Difference]:
    statistics = {name: (factory(first), factory(second)) for name, factory in named.items()}
    signed = {
        name: (one.signed(), two.signed()) for name, (one, two) in statistics.items() if one.signed and two.signed
    }
    draws: dict[str, list[float]] = {name: [] for name in statistics if name not in signed}
    noise: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in signed}
    for left, right in pairs:
        for name, values in draws.items():
            one, two = statistics[name]
            values.append(one.weighted(left) - two.weighted(right))
        for name, sums in noise.items():
            a, b = signed[name]
            sums.append((a.sums(left) - a.observed, b.sums(right) - b.observed))
    few = _few(first, second)
    result = {}
    for name, (one, two) in statistics.items():
        if not (math.isfinite(one.value) and math.isfinite(two.value)):
            result[name] = _not_finite(one.value, two.value, level)
        elif name in noise:
            moves = tuple(np.stack([both[side] for both in noise[name]]) for side in (0, 1))
            method = f"paired bootstrap around gaps of one size, {drawn_from}"
            result[name] = _debiased(signed[name], (moves[0], moves[1]), level, method, few)
        elif name == "error" and first.example is None and first.weight is None:
            result[name] = _errors(one, two, level, few)
        else:
            drawn = np.array(draws[name])
            tail = (1.0 - level) / 2.0
            low, high = map(float, np.nanquantile(drawn, [tail, 1.0 - tail], method="weibull"))
            value, p_value = one.value - two.value, _p_value(drawn, 0.0)
            method = f"paired percentile bootstrap, {drawn_from}"
            verdict = _verdict(low, high, few)
            result[name] = Difference(value, low, high, p_value, one.value, two.value, level, method, verdict)
    return result


def _few(first: Rows, second: Rows) -> bool:
    """Whether there are too few examples or wrong answers to compare two models."""
    wrong = sum(float((weights_of(rows) * (1.0 - rows.correct)).sum()) for rows in (first, second))
    return first.examples < FEW_ROWS or wrong < FEW_ERRORS


def _p_value(draws: Floats, at: float) -> float:
    """Twice the smaller share of the draws on either side."""
    below, above = (1 + int((draws <= at).sum())) / (1 + len(draws)), (1 + int((draws >= at).sum())) / (1 + len(draws))
    return min(1.0, 2.0 * min(below, above))


def _verdict(low: float, high: float, few: bool) -> Outcome:
    if few:
        return "too few rows"
    if low == high == 0.0:
        return "identical"
    return "lower" if high < 0.0 else "higher" if low > 0.0 else "no significant difference"


def _not_finite(first: float, second: float, level: float) -> Difference:
    """A difference of which one side or both are infinite, or not defined."""
    value = 0.0 if first == second else first - second
    if math.isnan(value):
        sentence = "none: the metric is not defined for one of the two, or for both"
        return Difference(value, -math.inf, math.inf, 1.0, first, second, level, sentence, "too few rows")
    sentence = "none: a label has probability 0, so that the metric is infinite; compare another one"
    return Difference(value, -math.inf, math.inf, 1.0, first, second, level, sentence, "infinite")


def _errors(one: Statistic, two: Statistic, level: float, few: bool) -> Difference:
    """The difference of two error rates: Bonett and Price's interval (2012) and McNemar's exact p-value."""
    assert one.rate is not None
    assert two.rate is not None
    size = len(one.rate)
    only_first, only_second = int((one.rate > two.rate).sum()), int((one.rate < two.rate).sum())
    p_first, p_second = (only_first + 1) / (size + 2), (only_second + 1) / (size + 2)
    value = (only_first - only_second) / size
    middle = p_first - p_second
    far = NormalDist().inv_cdf(0.5 + level / 2.0)
    half = far * math.sqrt(max(p_first + p_second - middle**2, 0.0) / (size + 2))
    discordant = only_first + only_second
    below = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    p_value = min(1.0, 2.0 * below / 2**discordant)
    method = f"Bonett and Price's interval, McNemar's exact test, {plural(size, 'paired example')}"
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    verdict = _verdict(low, high, few) if discordant or few else "identical"
    return Difference(value, low, high, p_value, one.value, two.value, level, method, verdict)


def _debiased(
    pair: tuple[Signed, Signed], noise: tuple[Floats, Floats], level: float, method: str, few: bool
) -> Difference:
    """The difference of two distances without their upward bias.

    A resample of the gaps as observed would add the noise a second time. The resamples are drawn around gaps of one
    size for both models, as they are if the two do not differ.
    """
    gaps = gaps_of_equal_size(pair, noise)
    values, errors = [], []
    for signed, around, moves in zip(pair, gaps, noise, strict=True):
        values.append(float(signed.distance(signed.observed)))
        errors.append(signed.distance(around + moves) - float(signed.distance(around)))
    first, second = (max(value - float(error.mean()), 0.0) for value, error in zip(values, errors, strict=True))
    chance = errors[0] - errors[1]
    plug_in, tail = values[0] - values[1], (1.0 - level) / 2.0
    low, high = (plug_in - float(q) for q in np.quantile(chance, [1.0 - tail, tail], method="weibull"))
    value = min(max(first - second, low), high)
    p_value = _p_value(chance, plug_in)
    return Difference(value, low, high, p_value, first, second, level, method, _verdict(low, high, few))
