"""Expected calibration error: how far confidence is from accuracy, bin by bin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from .binning import Binned, Binning, check_binning, into_bins
from .inputs import Array, Floats, Predictions, Value, read

Norm = Literal["l1", "l2", "max"]
Scope = Literal["top-label", "class-wise"] | int


def ece(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    norm: Norm = "l1",
    scope: Scope = "top-label",
    ignore_index: int | None = None,
) -> Value:
    r"""Expected calibration error: the mean distance between confidence and accuracy over bins of confidence.

    With n_b predictions in bin b, of mean confidence c_b and accuracy a_b:

    .. math:: \text{l1: } \sum_b \frac{n_b}{N} |c_b - a_b| \qquad
              \text{l2: } \Big(\sum_b \frac{n_b}{N} (c_b - a_b)^2\Big)^{1/2} \qquad \text{max: } \max_b |c_b - a_b|

    Args:
        probabilities: (N, K), (N, K, d1, ...), or (N,) for a binary question (the probability of class 1).
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        logits: in place of probabilities.
        bins: how many bins, ≥ 1.
        binning: "equal-mass" (edges are quantiles, ties share a bin, so there may be fewer bins) or "equal-width".
            Bins are closed on the right; 0.0 is in the first bin and 1.0 in the last.
        norm: "l1" is the ECE, "l2" its root-mean-square form, "max" the maximum calibration error (MCE).
        scope: "top-label" compares the largest probability with being right; an integer k compares p_k with y = k
            (for binary input ``scope=1`` is the calibration of "yes"); "class-wise" takes every class, and the norm
            over bins and classes together, classes weighted equally: for l1 that is the mean over classes.
        ignore_index: positions with this label are left out.

    Returns:
        A number in [0, 1]. It is biased upwards: a perfectly calibrated model of N examples scores about
        (2B / πN)^½ times the root of mean p(1-p), not 0.

    Raises:
        ValueError: as in :func:`error`; or for an option out of its range.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
        >>> round(ece(p, np.array([0, 0, 1, 0]), bins=2), 6)
        0.15

    Source: Naeini, Cooper and Hauskrecht (2015); Guo et al. (2017). Class-wise: Nixon et al. (2019).
    """
    check_options(bins, binning, norm)
    rows = read(probabilities, labels, logits, ignore_index)
    return rows.out(combine([distance(binned, norm) for binned in scoped(rows, bins, binning, scope)], norm))


def check_options(bins: int, binning: str, norm: str) -> None:
    """Raise a sentence for an unknown option."""
    check_binning(bins, binning)
    if norm not in ("l1", "l2", "max"):
        raise ValueError(f"norm must be 'l1', 'l2' or 'max', not {norm!r}.")


def scoped(rows: Predictions, bins: int, binning: str, scope: Scope) -> Iterator[Binned]:
    """The binned predictions of the scope: one for "top-label" or a class, K for "class-wise"."""
    for confidence, correct in scoped_rows(rows, scope):
        yield into_bins(confidence, correct, bins, binning)


def scoped_rows(rows: Predictions, scope: Scope) -> Iterator[tuple[Floats, Floats]]:
    """(confidence, correct) of each question that the scope asks."""
    if scope == "top-label":
        yield rows.confidence, rows.correct
    elif scope == "class-wise":
        for k in range(rows.classes):
            yield rows.of_class(k)
    elif isinstance(scope, (int, np.integer)) and not isinstance(scope, bool) and 0 <= scope < rows.classes:
        yield rows.of_class(int(scope))
    else:
        raise ValueError(
            f"scope must be 'top-label', 'class-wise' or a class in 0 to {rows.classes - 1}, not {scope!r}."
        )


def distance(binned: Binned, norm: str) -> float:
    """The norm of the gaps of one set of bins."""
    gap, share = np.abs(binned.gap), binned.count / binned.count.sum()
    if norm == "l1":
        return float(share @ gap)
    return float(np.sqrt(share @ gap**2)) if norm == "l2" else float(gap.max())


def combine(values: list[float], norm: str) -> float:
    """One number for several classes, each with the same weight."""
    array = np.asarray(values)
    if norm == "l1":
        return float(array.mean())
    return float(np.sqrt((array**2).mean())) if norm == "l2" else float(array.max())
