"""Intervals of distances from calibration by inverting a test, and the gaps that are most likely for a size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .binning import sum_by
from .rows import Floats, Integers
from .statistic import Signed

Shape = Callable[[float], Floats]
"""A family of gaps θ(t) [C] whose distance T rises from 0 with t."""


def inversion(signed: Signed, design_effect: float, level: float, resamples: int, seed: int) -> tuple[float, float]:
    """The sizes T(θ) of true gaps θ under which the observed T is inside its central `level`.

    Under gaps θ a cell's answers are right with probability confidence - θ, and T is drawn by drawing them. At θ = 0
    that is a calibrated model of this sample size: chance alone is not taken for miscalibration, and a cell without
    errors is not taken for one without noise. How much chance adds to a size depends on how the gaps are spread: most
    where they sit in few cells, least where all are equal. The lower end takes the gaps that are most likely for each
    size, the upper end the greatest of those and of equal gaps either way.
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
        slack = 1e-9 * value  # sums that differ by their rounding alone are equal
        beyond = distance >= value - slack if side < 0 else distance <= value + slack
        return bool((1 + beyond.sum()) / (1 + resamples) > tail)

    def size(shape: Shape, t: float) -> float:
        return float(signed.distance(gaps(shape(t))))

    shapes = _shapes(signed, trials)
    low = high = 0.0
    if not accepted(-1, shapes[0], 0.0):
        low = _largest(partial(size, shapes[0]), lambda t: not accepted(-1, shapes[0], t), 0.0)
    for shape in shapes:
        high = max(high, _largest(partial(size, shape), partial(accepted, 1, shape), high))
    # Fewer errors than any gaps explain: the observed distance is the best guess then.
    return low, high if high > 0.0 else max(low, value)


def _largest(size: Callable[[float], float], accepted: Callable[[float], bool], above: float) -> float:
    """The largest size(t) that is accepted; 0 where there is none larger than `above`."""
    inside = 0.0
    if above > 0.0:
        outside = 1.0
        while size(outside) < above:
            if size(2.0 * outside) <= size(outside):  # the probabilities allow no larger gaps
                return 0.0
            outside *= 2.0
        for _ in range(9):
            middle = (inside + outside) / 2.0
            inside, outside = (middle, outside) if size(middle) < above else (inside, middle)
        inside = outside
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
    for _ in range(8):
        middle = (inside + outside) / 2.0
        inside, outside = (middle, outside) if accepted(middle) else (inside, middle)
    return size((inside + outside) / 2.0)


_STEPS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5)


def likeliest_gaps(signed: Signed, noise: Floats) -> Floats:
    """The most likely gaps [C] of the size under which the mean distance, with noise [R, C], is the observed one."""
    value = float(signed.distance(signed.observed))
    if value == 0.0 or float(signed.distance(noise).mean()) >= value:
        return np.zeros_like(signed.observed)
    shape = _shapes(signed, signed.count)[0]
    left, right = 0.0, 1.0
    for _ in range(12):
        middle = (left + right) / 2.0
        above = float(signed.distance(shape(middle) + noise).mean()) >= value
        left, right = (left, middle) if above else (middle, right)
    return shape((left + right) / 2.0)


def _shapes(signed: Signed, trials: Floats | Integers) -> list[Shape]:
    """The most likely gaps of each size; equal ones either way; and ones in proportion to c (1 - c) either way.

    For a sum of |e_g| the likelihood under the constraint Σ|θ_g| = τ is greatest on the path of soft thresholds in
    units of the variance. For other distances the observed gaps times t stand for it.
    """
    observed, share = signed.observed, signed.count / signed.size
    value = float(signed.distance(observed))
    spread = share * np.maximum(signed.confidence * (1.0 - signed.confidence), 1e-9)
    shapes: list[Shape] = [partial(np.multiply, observed)]
    for even in (share, spread):
        # In the size of the observed gaps, so that t = 1 is about the answer; without any, in units of one point.
        scale = (value if value > 0.0 else 0.01) / max(float(signed.distance(even)), 1e-300)
        shapes += [partial(np.multiply, scale * even), partial(np.multiply, -scale * even)]
    if signed.group is not None and value > 0.0:
        groups = int(signed.group.max()) + 1
        # With one right and one wrong answer added: a cell without errors is not known exactly.
        right = (signed.correct + 1.0) / (signed.count + 2.0)
        variance = sum_by(signed.group, share**2 * right * (1.0 - right) / np.maximum(trials, 1), groups)
        summed = sum_by(signed.group, observed, groups)
        within = spread / sum_by(signed.group, spread, groups)[signed.group]
        filled, size = variance > 0, np.abs(summed)
        top = float((size[filled] / variance[filled]).max())

        def thresholded(t: float) -> Floats:
            moved = np.sign(summed) * np.maximum(size - top * (1.0 - t) * variance, 0.0)
            return np.asarray(moved[signed.group] * within)

        shapes[0] = thresholded
    return shapes
