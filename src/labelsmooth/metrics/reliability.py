"""The reliability curve: confidence against accuracy, bin by bin, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .binning import Binning, check_binning, into_bins
from .calibration_error import Scope, scoped_rows
from .inputs import Array, Floats, Integers, read


@dataclass(frozen=True)
class ReliabilityCurve:
    """B bins of confidence: their edges [B+1], and per bin [B] the count, mean confidence and accuracy.

    Both means are NaN in an empty bin (possible for equal width only).
    """

    edges: Floats
    count: Integers
    confidence: Floats
    accuracy: Floats

    @property
    def gap(self) -> Floats:
        """Mean confidence minus accuracy per bin, [B]: above 0 over-confident. NaN in an empty bin."""
        return self.confidence - self.accuracy


def reliability_curve(
    probabilities: Array | None = None,
    labels: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    *,
    logits: Array | None = None,
    scope: Scope = "top-label",
    ignore_index: int | None = None,
) -> ReliabilityCurve:
    r"""Mean confidence and accuracy in each bin of confidence.

    .. math:: c_b = \frac1{n_b} \sum_{i \in b} \text{conf}_i \qquad a_b = \frac1{n_b} \sum_{i \in b} \text{correct}_i

    Args:
        probabilities: (N, K), (N, K, d1, ...) or (N,), as in :func:`labelsmooth.metrics.ece`.
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        bins: how many bins, ≥ 1; equal-mass bins may be fewer where confidences are tied.
        binning: "equal-mass" or "equal-width".
        logits: in place of probabilities.
        scope: "top-label", or an integer k for p_k against y = k.
        ignore_index: positions with this label are left out.

    Returns:
        A :class:`ReliabilityCurve`. Its count-weighted mean of |gap| is the ECE with the same options.

    Raises:
        ValueError: as in :func:`labelsmooth.metrics.ece`, and for ``scope="class-wise"``, which is K curves.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> curve = reliability_curve(p, np.array([0, 0, 1, 0]), bins=2)
        >>> curve.count, curve.confidence.round(2), curve.accuracy.round(2)
        (array([2, 2]), array([0.65, 0.85]), array([0.5, 1. ]))

    Source: Murphy and Winkler (1977).
    """
    check_binning(bins, binning)
    if scope == "class-wise":
        raise ValueError("scope='class-wise' is one curve per class: ask for scope=k, one class at a time.")
    rows = read(probabilities, labels, logits, ignore_index)
    ((confidence, correct),) = scoped_rows(rows, scope)
    return curve_of(confidence, correct, bins, binning)


def curve_of(
    confidence: Floats, correct: Floats, bins: int, binning: Binning, weight: Floats | None = None
) -> ReliabilityCurve:
    """The curve of confidences and what was right."""
    binned = into_bins(confidence, correct, bins, binning, weight)
    count = np.where(binned.count > 0, binned.count, np.nan)
    return ReliabilityCurve(
        edges=binned.edges,
        count=np.rint(binned.count).astype(np.int64),
        confidence=binned.confidence / count,
        accuracy=binned.correct / count,
    )
