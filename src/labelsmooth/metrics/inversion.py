"""Intervals of distances from calibration by inverting a test, and the gaps that are most likely for a size."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from labelsmooth.metrics.binning import sum_by
from labelsmooth.metrics.binomial import bisected
from labelsmooth.metrics.rows import Floats, Integers
from labelsmooth.metrics.statistic import Signed

Shape = Callable[[float], Floats]
"""A family of gaps θ(t) [C] whose distance T rises from 0 with t."""


def inversion(signed: Signed, design_effect: float, level: float, resamples: int, seed: int) -> tuple[float, float]:
    """The sizes T(θ) of true gaps θ under which the observed T is inside its central `level`.

    Under gaps θ a cell's answers are right with probability confidence - θ, and T is drawn by drawing them. At θ = 0
    that is a calibrated model of this sample size: chance alone is not taken for miscalibration, and a cell without
    errors is not taken for one without noise. How much chance adds to a size depends on how the gaps are spread: most
    where they sit in few cells, least where all are equal. Each end is the furthest of those for the gaps that are most
    likely for each size, for equal gaps, and for gaps in proportion to c (1 - c), either way; of several classes also
    for those of a wrong temperature, which are positive above 1/2 and negative below.
    """
    trials = np.maximum(np.rint(signed.count / design_effect), 1).astype(np.int64)
    share = signed.count / signed.size
    value = float(signed.distance(signed.observed))
    tail = (1.0 - level) / 2.0

    def gaps(theta: Floats) -> Floats:
        """The gaps that probabilities between 0 and 1 allow."""
        return np.asarray(np.clip(theta, share * (signed.confidence - 1.0), share * signed.confidence))

    def accepted(side: int, shape: Shape, t: float) -> bool:
        """Whether a distance as far from T(θ) as the observed one, on that side of it, is more likely than the tail."""
        right = np.clip(signed.confidence - shape(t) / share, 0.0, 1.0)
        drawn = np.random.default_rng(seed).binomial(trials, right, (resamples, len(trials))) / trials
        distance = signed.distance(share * (signed.confidence - drawn))
        distance = distance.mean() + signed.widening * (distance - distance.mean())
        slack = 1e-9 * value  # sums that differ by their rounding alone are equal
        beyond = distance >= value - slack if side < 0 else distance <= value + slack
        return bool((1 + beyond.sum()) / (1 + resamples) > tail)

    def size(shape: Shape, t: float) -> float:
        return float(signed.distance(gaps(shape(t))))

    shapes = _shapes(signed, trials)
    low = high = 0.0
    if not accepted(-1, shapes[0], 0.0):
        low = min(_smallest(partial(size, shape), partial(accepted, -1, shape)) for shape in shapes)
    for shape in shapes:
        high = max(high, _largest(partial(size, shape), partial(accepted, 1, shape), high))
    # Fewer errors than any gaps explain: the observed distance is the best guess then.
    return low, high if high > 0.0 else max(low, value)


def _smallest(size: Callable[[float], float], accepted: Callable[[float], bool]) -> float:
    """The smallest size(t) that is accepted; infinity where none is."""
    outside, inside = 0.0, 1.0
    while not accepted(inside):
        if size(2.0 * inside) <= size(inside):  # the probabilities allow no larger gaps
            return math.inf
        outside, inside = inside, 2.0 * inside
    return size(sum(bisected(inside, outside, accepted, 8)) / 2.0)


def _largest(size: Callable[[float], float], accepted: Callable[[float], bool], above: float) -> float:
    """The largest size(t) that is accepted; 0 where there is none larger than `above`."""
    inside = 0.0
    if above > 0.0:
        outside = 1.0
        while size(outside) < above:
            if size(2.0 * outside) <= size(outside):  # the probabilities allow no larger gaps
                return 0.0
            outside *= 2.0
        inside = bisected(0.0, outside, lambda t: size(t) < above, 9)[1]
    if not accepted(inside):
        # Where a larger gap means fewer errors, a larger size may be accepted when a smaller one is not.
        steps = [] if above > 0.0 else [t for t in _STEPS if accepted(t)]
        if not steps:
            return 0.0
        inside = steps[-1]
    outside = max(1.0, 2.0 * inside)
    while accepted(outside):
        if size(2.0 * outside) <= size(outside):
            return size(outside)
        inside, outside = outside, 2.0 * outside
    return size(sum(bisected(inside, outside, accepted, 8)) / 2.0)


_STEPS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5)


def gaps_of_equal_size(pair: tuple[Signed, Signed], noise: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """The most likely gaps [C] of two models if they are equally far from calibration.

    Their common size is the one under which the distances, with noise [R, C], have the observed sum as their mean.
    """
    observed = sum(float(signed.distance(signed.observed)) for signed in pair)
    shapes = [_shapes(signed, signed.count)[0] for signed in pair]

    def gaps_of(signed: Signed, shape: Shape, size: float) -> Floats:
        """The gaps of one model whose distance is `size`."""

        def is_below(t: float) -> bool:
            return float(signed.distance(shape(t))) < size

        right = 1.0
        while is_below(right) and right < 1e6:
            right *= 2.0
        return shape(bisected(0.0, right, is_below, 20)[1])

    def of_size(size: float) -> list[Floats]:
        return [gaps_of(signed, shape, size) for signed, shape in zip(pair, shapes, strict=True)]

    def excess(gaps: list[Floats]) -> float:
        drawn = (signed.distance(g + moves) for signed, g, moves in zip(pair, gaps, noise, strict=True))
        return sum(float(distance.mean()) for distance in drawn) - observed

    if observed == 0.0 or excess(of_size(0.0)) >= 0.0:
        return np.zeros_like(noise[0][0]), np.zeros_like(noise[1][0])
    one, two = of_size(sum(bisected(0.0, observed / 2.0, lambda size: excess(of_size(size)) < 0.0, 7)) / 2.0)
    return one, two


def _shapes(signed: Signed, trials: Floats | Integers) -> list[Shape]:
    """The most likely gaps of each size; equal ones; ones in proportion to c (1 - c); and those of a wrong temperature.

    For a sum of |e_g| the likelihood under the constraint Σ|θ_g| = τ is greatest on the path of soft thresholds in
    units of the variance. For other distances the observed gaps of ten groups of cells, times t, stand for it.
    """
    observed, share = signed.observed, signed.count / signed.size
    value = float(signed.distance(observed))
    spread = share * np.maximum(signed.confidence * (1.0 - signed.confidence), 1e-9)
    group = signed.group
    if group is None:  # cells of one row each have gaps of chance alone: take ten groups of like confidence
        group = np.minimum(10.0 * np.cumsum(share) / share.sum(), 9.0).astype(np.int64)
    groups = int(group.max()) + 1
    summed = sum_by(group, observed, groups)
    within = spread / np.maximum(sum_by(group, spread, groups), 1e-300)[group]
    shapes: list[Shape] = [partial(np.multiply, summed[group] * within)]
    evens = [share, spread]
    if signed.questions > 1:
        c = np.clip(signed.confidence, 1e-12, 1.0 - 1e-12)
        evens.append(spread * np.log(c / (1.0 - c)))
    for even in evens:
        # In the size of the observed gaps, so that t = 1 is about the answer; without any, in units of one point.
        scale = (value if value > 0.0 else 0.01) / max(float(signed.distance(even)), 1e-300)
        shapes += [partial(np.multiply, scale * even), partial(np.multiply, -scale * even)]
    if signed.group is not None and value > 0.0:
        # With one right and one wrong answer added: a cell without errors is not known exactly.
        right = (signed.correct + 1.0) / (signed.count + 2.0)
        variance = sum_by(group, share**2 * right * (1.0 - right) / np.maximum(trials, 1), groups)
        filled, size = variance > 0, np.abs(summed)
        top = float((size[filled] / variance[filled]).max())

        def thresholded(t: float) -> Floats:
            moved = np.sign(summed) * np.maximum(size - top * (1.0 - t) * variance, 0.0)
            return np.asarray(moved[group] * within)

        shapes[0] = thresholded
    return shapes
