"""The Brier score split into calibration and refinement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .binning import check_binning, into_bins
from .inputs import read
from .interval import Estimate, Interval, percentile_estimate, resampled_counts
from .options import Binning
from .rows import Array, Floats


@dataclass(frozen=True)
class BrierSplit:
    """The Brier score as calibration + refinement, and the refinement as uncertainty - resolution.

    calibration: what replacing every probability by its bin's frequency would gain; refinement: the Brier score that
    is left then; uncertainty: that of always predicting the frequencies of the classes; resolution: what telling the
    bins apart gains over that. Each a number, or an :class:`Estimate` where an interval was asked for.
    """

    brier: float | torch.Tensor | Estimate
    calibration: float | torch.Tensor | Estimate
    refinement: float | torch.Tensor | Estimate
    uncertainty: float | torch.Tensor | Estimate
    resolution: float | torch.Tensor | Estimate


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
