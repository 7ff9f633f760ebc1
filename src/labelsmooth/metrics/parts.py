"""Calibration errors taken apart: debiased, over and under, and the Brier score's calibration and refinement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .binning import Binning, check_binning, into_bins, sum_by
from .calibration_error import Scope, scoped_rows
from .inputs import Array, Floats, Rows, Value, read
from .interval import Interval, measured, percentile_estimate, resampled_counts
from .statistic import Signed, Statistic, distance_of, ones_of


def debiased_ece(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    scope: Scope = "top-label",
    ignore_index: int | None = None,
    interval: float | Interval | None = None,
) -> Value:
    r"""The l2 calibration error without its upward bias: each bin's sampling variance is taken off its squared gap.

    .. math:: \max\Big(0, \sum_b \frac{n_b}{N} \Big[(c_b - a_b)^2 - \frac{a_b (1 - a_b)}{n_b - 1}\Big]\Big)^{1/2}

    Args:
        probabilities, labels, logits, bins, binning, scope, ignore_index: as in :func:`ece`.
        interval: a level such as 0.95, for an :class:`Estimate`: that of the binned l2 error itself.

    Returns:
        A number in [0, 1]: 0 where the gaps are no larger than chance makes them. A bin of one row has no variance to
        estimate and counts for nothing.

    Raises:
        ValueError: as in :func:`ece`.

    Example:
        >>> import numpy as np
        >>> p = np.tile([0.8, 0.2], (1000, 1))
        >>> round(debiased_ece(p, (np.arange(1000) >= 700).astype(int)), 3)
        0.099

    Source: Kumar, Liang and Ma (2019).
    """
    check_binning(bins, binning)
    rows = read(probabilities, labels, logits, ignore_index)
    return measured(rows, debiased_statistic(rows, bins, binning, scope), interval)


def debiased_statistic(
    rows: Rows, bins: int = 15, binning: Binning = "equal-mass", scope: Scope = "top-label"
) -> Statistic:
    questions = list(scoped_rows(rows, scope))
    binned = [into_bins(confidence, correct, bins, binning, rows.weight) for confidence, correct in questions]
    differences = [confidence - correct for confidence, correct in questions]
    count = np.concatenate([b.count for b in binned])
    share = count / ones_of(rows).sum()
    right = np.concatenate([b.correct for b in binned]) / np.maximum(count, 1.0)
    known = count > 1
    variance = np.where(known, right * (1.0 - right) / np.maximum(count - 1.0, 1.0), 0.0)

    def sums(counts: Floats) -> Floats:
        total = [sum_by(b.index, counts * d, len(b.count)) for b, d in zip(binned, differences, strict=True)]
        return np.asarray(np.concatenate(total) / counts.sum())

    def distance(total: Floats) -> Floats:
        gap = total / np.where(share > 0, share, 1.0)
        square = np.where(known, share * (gap**2 - variance), 0.0).sum(axis=-1) / len(questions)
        return np.asarray(np.sqrt(np.maximum(square, 0.0)))

    return distance_of(Signed(sums(ones_of(rows)), sums, distance, even=share))


def over_confidence(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    scope: Scope = "top-label",
    ignore_index: int | None = None,
    interval: float | Interval | None = None,
) -> Value:
    r"""The part of the ECE from bins whose confidence is above their accuracy.

    .. math:: \sum_b \frac{n_b}{N} \max(c_b - a_b, 0)

    Together with :func:`under_confidence` it is the l1 :func:`ece`; the difference of the two is the
    :func:`confidence_gap`. Arguments and Raises as there; for "class-wise" the mean over classes.

    Returns:
        A number in [0, 1], biased upwards like the ECE.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> y = np.array([0, 0, 1, 0])
        >>> round(over_confidence(p, y, bins=2), 6), round(under_confidence(p, y, bins=2), 6)
        (0.075, 0.075)
    """
    check_binning(bins, binning)
    rows = read(probabilities, labels, logits, ignore_index)
    return measured(rows, over_statistic(rows, bins, binning, scope), interval)


def under_confidence(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    scope: Scope = "top-label",
    ignore_index: int | None = None,
    interval: float | Interval | None = None,
) -> Value:
    r"""The part of the ECE from bins whose confidence is below their accuracy: Σ n_b / N max(a_b - c_b, 0).

    Arguments, returned value and errors as for :func:`over_confidence`.

    Example:
        >>> import numpy as np
        >>> under_confidence(np.array([[0.6, 0.4], [0.6, 0.4]]), np.array([0, 0]))
        0.4
    """
    check_binning(bins, binning)
    rows = read(probabilities, labels, logits, ignore_index)
    return measured(rows, under_statistic(rows, bins, binning, scope), interval)


def one_sided_statistic(
    rows: Rows,
    sign: float,
    bins: int = 15,
    binning: Binning = "equal-mass",
    scope: Scope = "top-label",
) -> Statistic:
    questions = list(scoped_rows(rows, scope))
    binned = [into_bins(confidence, correct, bins, binning, rows.weight) for confidence, correct in questions]
    differences = [confidence - correct for confidence, correct in questions]

    def sums(counts: Floats) -> Floats:
        total = [sum_by(b.index, counts * d, len(b.count)) for b, d in zip(binned, differences, strict=True)]
        return np.asarray(np.concatenate(total) / counts.sum())

    def distance(total: Floats) -> Floats:
        return np.asarray(np.maximum(sign * total, 0.0).sum(axis=-1) / len(questions))

    return distance_of(Signed(sums(ones_of(rows)), sums, distance))


def over_statistic(
    rows: Rows, bins: int = 15, binning: Binning = "equal-mass", scope: Scope = "top-label"
) -> Statistic:
    return one_sided_statistic(rows, 1.0, bins, binning, scope)


def under_statistic(
    rows: Rows, bins: int = 15, binning: Binning = "equal-mass", scope: Scope = "top-label"
) -> Statistic:
    return one_sided_statistic(rows, -1.0, bins, binning, scope)


@dataclass(frozen=True)
class BrierSplit:
    """The Brier score as calibration + refinement, and the refinement as uncertainty - resolution.

    calibration: what replacing every probability by its bin's frequency would gain; refinement: the Brier score that
    is left then; uncertainty: that of always predicting the frequencies of the classes; resolution: what telling the
    bins apart gains over that. Each a number, or an :class:`Estimate` where an interval was asked for.
    """

    brier: Value
    calibration: Value
    refinement: Value
    uncertainty: Value
    resolution: Value


def brier_split(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    ignore_index: int | None = None,
    interval: float | Interval | None = None,
) -> BrierSplit:
    r"""Split the Brier score into calibration and refinement, class by class with bins of p_k.

    .. math:: \text{refinement} = \sum_k \sum_b \frac{n_{kb}}{N} a_{kb} (1 - a_{kb}), \qquad
              \text{calibration} = \text{Brier} - \text{refinement}, \qquad
              \text{uncertainty} = \sum_k \bar y_k (1 - \bar y_k)

    The sum is exact: the spread of p inside a bin counts as calibration, so with few bins some real resolution does,
    too, and the calibration part can be below 0.

    Args:
        probabilities, labels, logits, bins, binning, ignore_index: as in :func:`ece`.
        interval: a level such as 0.95, for an :class:`Estimate` of each part from the same resamples, the edges fixed.
            The parts have the bias of small bins: calibration upwards, refinement downwards.

    Returns:
        A :class:`BrierSplit`; halved for binary (N,) input, like :func:`brier`.

    Raises:
        ValueError: as in :func:`ece`.

    Example:
        >>> import numpy as np
        >>> split = brier_split(np.array([0.9, 0.9, 0.2, 0.2]), np.array([1, 0, 0, 0]), bins=2)
        >>> print(f"{split.calibration:.3f} + {split.refinement:.3f} = {split.brier:.3f}")
        0.100 + 0.125 = 0.225

    Source: Murphy (1973); Bröcker (2009).
    """
    check_binning(bins, binning)
    rows = read(probabilities, labels, logits, ignore_index)
    classes = [1] if rows.binary else range(rows.classes)
    questions = [rows.of_class(k) for k in classes]
    index = [into_bins(confidence, correct, bins, binning).index for confidence, correct in questions]
    square = rows.squared_error

    def parts(counts: Floats) -> Floats:
        """Brier score, refinement and uncertainty."""
        refinement = uncertainty = 0.0
        size = counts.sum()
        for at, (_, correct) in zip(index, questions, strict=True):
            total, right = np.bincount(at, counts), np.bincount(at, counts * correct)
            refinement += float((right * (1.0 - right / np.maximum(total, 1.0))).sum() / size)
            share = float(right.sum() / size)
            uncertainty += share * (1.0 - share)
        return np.array([(counts * square).sum() / size, refinement, uncertainty])

    def split(brier: float, refinement: float, uncertainty: float) -> list[float]:
        return [brier, brier - refinement, refinement, uncertainty, uncertainty - refinement]

    whole = split(*parts(np.ones(rows.rows)))
    if interval is None:
        return BrierSplit(*whole)
    how = interval if isinstance(interval, Interval) else Interval(interval)
    if how.method not in ("auto", "percentile"):
        raise ValueError(f"method must be 'auto' or 'percentile' for the parts of a score, not {how.method!r}.")
    draws = np.array([split(*parts(counts)) for counts in resampled_counts(rows, how)])
    return BrierSplit(*(percentile_estimate(v, d, rows, how) for v, d in zip(whole, draws.T, strict=True)))
