"""Expected calibration error: how far confidence is from accuracy, bin by bin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from .binning import Binned, Binning, check_binning, into_bins
from .inputs import Array, Floats, Predictions, Rows, Value, read
from .interval import Interval, measured
from .statistic import Signed, Statistic, distance_of

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
    interval: float | Interval | None = None,
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
        interval: a level such as 0.95, for an :class:`Estimate`. The edges count as fixed: the interval is for the
            binned calibration error of the population, with the upward bias of the value removed.

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
    return measured(rows, ece_statistic(rows, bins, binning, norm, scope), interval)


def check_options(bins: int, binning: str, norm: str) -> None:
    """Raise a sentence for an unknown option."""
    check_binning(bins, binning)
    if norm not in ("l1", "l2", "max"):
        raise ValueError(f"norm must be 'l1', 'l2' or 'max', not {norm!r}.")


def scoped_rows(rows: Rows, scope: Scope) -> Iterator[tuple[Floats, Floats]]:
    """(confidence, correct) of each question that the scope asks."""
    if scope == "top-label":
        yield rows.confidence, rows.correct
    elif not isinstance(rows, Predictions):
        raise ValueError(
            f"scope must be 'top-label' for reduced rows, not {scope!r}: they hold no class's probabilities."
        )
    elif scope == "class-wise":
        for k in range(rows.classes):
            yield rows.of_class(k)
    elif isinstance(scope, (int, np.integer)) and not isinstance(scope, bool) and 0 <= scope < rows.classes:
        yield rows.of_class(int(scope))
    else:
        raise ValueError(
            f"scope must be 'top-label', 'class-wise' or a class in 0 to {rows.classes - 1}, not {scope!r}."
        )


def one_question(rows: Rows, scope: Scope) -> tuple[Floats, Floats]:
    """(confidence, correct) of a scope that is a single question."""
    if scope == "class-wise":
        raise ValueError("scope='class-wise' is one question per class: ask for scope=k, one class at a time.")
    ((confidence, correct),) = scoped_rows(rows, scope)
    return confidence, correct


def ece_statistic(
    rows: Rows,
    bins: int = 15,
    binning: Binning = "equal-mass",
    norm: Norm = "l1",
    scope: Scope = "top-label",
) -> Statistic:
    """The ECE as a distance of signed sums: S holds Σ (confidence - correct) / M of each bin of each class."""
    check_options(bins, binning, norm)
    questions = list(scoped_rows(rows, scope))
    binned = [into_bins(confidence, correct, bins, binning, rows.weight) for confidence, correct in questions]
    size = float(binned[0].count.sum())
    share = np.concatenate([b.count for b in binned]) / size
    observed = np.concatenate([b.confidence - b.correct for b in binned]) / size
    classes = len(binned)
    parts: list[_BinSums] = []  # only resamples need the rows in the order of their bins

    def sums(counts: Floats) -> Floats:
        if not parts:
            parts.extend(_BinSums(b, c - r) for b, (c, r) in zip(binned, questions, strict=True))
        return np.asarray(np.concatenate([part(counts) for part in parts]) / counts.sum())

    def distance(total: Floats) -> Floats:
        return binned_distance(total, share, norm, classes)

    def influence() -> Floats:
        return _influence(binned, questions, norm, distance(observed))

    return distance_of(Signed(observed, sums, distance, even=share, separable=norm == "l1"), influence)


def binned_distance(total: Floats, share: Floats, norm: str, classes: int) -> Floats:
    """The norm of Σ (confidence - correct) / M per bin [..., D], with the bins' shares of the rows [D]."""
    if norm == "l1":
        return np.asarray(np.abs(total).sum(axis=-1) / classes)
    gap = np.abs(total) / np.where(share > 0, share, 1.0)
    if norm == "max":
        return np.asarray(gap.max(axis=-1))
    return np.asarray(np.sqrt((share * gap**2).sum(axis=-1) / classes))


class _BinSums:
    """Σ counts · values per bin, for many counts: rows are put in the order of their bins once."""

    def __init__(self, binned: Binned, values: Floats) -> None:
        # NumPy sorts short integers by counting them.
        small = binned.index.astype(np.uint16) if len(binned.count) < 1 << 16 else binned.index
        self.order = np.argsort(small, kind="stable")
        self.values = values[self.order]
        self.filled = binned.count > 0
        rows = np.bincount(binned.index, minlength=len(binned.count))
        self.starts = (np.cumsum(rows) - rows)[self.filled]

    def __call__(self, counts: Floats) -> Floats:
        total = np.zeros(self.filled.shape[0])
        total[self.filled] = np.add.reduceat(counts[self.order] * self.values, self.starts)
        return np.asarray(total)


def _influence(binned: list[Binned], questions: list[tuple[Floats, Floats]], norm: str, value: Floats) -> Floats:
    """ψ per row with the edges fixed: derivatives of Σ |S_b|, of (Σ S_b² / W_b)^½, of max |S_b / W_b|."""
    rows, classes, total = binned[0].index.shape[0], len(binned), float(value)
    if norm == "max":
        which = int(np.argmax([np.abs(b.gap).max() for b in binned]))
        binned, questions = [binned[which]], [questions[which]]
    psi = np.zeros(rows)
    for b, (confidence, correct) in zip(binned, questions, strict=True):
        gap, difference = b.gap[b.index], confidence - correct
        if norm == "l1":
            psi += np.sign(gap) * difference / classes
        elif norm == "l2":
            psi += (2.0 * gap * difference - gap**2) / classes
        else:
            worst = int(np.argmax(np.abs(b.gap)))
            scale = rows / b.count[worst]
            psi += total + np.where(b.index == worst, np.sign(gap) * (difference - gap) * scale, 0.0)
    if norm != "l2":
        return psi
    # The mean of squares, then its root: d√Q = dQ / 2√Q. At Q = 0 there is no derivative.
    return np.zeros(rows) if total == 0.0 else np.asarray(total + (psi - total**2) / (2.0 * total))
