"""Selective prediction: the risk that remains when the least confident predictions are handed back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .binning import sum_by
from .inputs import Array, Floats, Integers, Value, read


def aurc(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    ignore_index: int | None = None,
) -> Value:
    r"""Area under the risk-coverage curve: the mean error of the n most confident predictions, over n = 1 ... N.

    .. math:: \frac1N \sum_{n=1}^{N} \frac1n \sum_{j \le n} e_{(j)} \;=\; \frac1N \sum_j e_{(j)} (H_N - H_{j-1})

    with e_(j) = 1 where the j-th most confident prediction is wrong and H_n the harmonic numbers.

    Args:
        probabilities: (N, K), (N, K, d1, ...) or (N,), as in :func:`error`.
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        logits: in place of probabilities.
        ignore_index: positions with this label are left out.

    Returns:
        A number in [0, 1], lower is better. Equal confidences have no order of their own: the value is the expected
        one over all orders of the tied, so it does not depend on the order of the rows.

    Raises:
        ValueError: as in :func:`error`.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> round(aurc(p, np.array([0, 0, 1])), 6)  # one error, in the least confident place: (0 + 0 + 1/3) / 3
        0.111111

    Source: Geifman and El-Yaniv (2017).
    """
    rows = read(probabilities, labels, logits, ignore_index)
    return rows.out(area(TieGroups.of(rows.confidence, 1.0 - rows.correct)))


@dataclass(frozen=True)
class TieGroups:
    """Rows in order of falling confidence, equal confidences together: what the expectation over tie orders needs."""

    row: Integers
    above: Integers
    size: Integers
    errors: Floats

    @classmethod
    def of(cls, confidence: Floats, wrong: Floats) -> TieGroups:
        """Group [M] rows: `row` is the group of each row; per group the count above it, its size and its errors."""
        _, row, size = np.unique(-confidence, return_inverse=True, return_counts=True)
        size, row = size.astype(np.int64), row.reshape(-1).astype(np.int64)
        return cls(row, np.cumsum(size) - size, size, sum_by(row, wrong, size.shape[0]))


def area(groups: TieGroups) -> float:
    """The expected AURC: every member of a tie group gets the mean of H_N - H_{r-1} over the group's ranks r."""
    size = int(groups.size.sum())
    harmonic = _harmonic(size)
    return float(groups.errors @ (harmonic[-1] - _mean_harmonic(harmonic, groups.above, groups.size))) / size


def pseudo_values(groups: TieGroups, wrong: Floats) -> Floats:
    """Jackknife pseudo-values N·T - (N-1)·T₋ᵢ of the AURC T, exact and in one pass, [M].

    Without row i there are N-1 ranks; groups above keep theirs, its own group has one member fewer, and the groups
    below move up by one. Prefix sums over the groups give every T₋ᵢ at once.
    """
    size = int(groups.size.sum())
    if size == 1:
        return wrong.astype(np.float64)
    harmonic = _harmonic(size)
    same = groups.errors * _mean_harmonic(harmonic, groups.above, groups.size)
    # The first group has nothing above it and is never below a removed row: its shifted ranks are not used.
    moved = groups.errors * _mean_harmonic(harmonic, np.maximum(groups.above - 1, 0), groups.size)
    above = np.cumsum(same) - same
    below = moved.sum() - np.cumsum(moved)
    smaller = _mean_harmonic(harmonic, groups.above, np.maximum(groups.size - 1, 1))
    g = groups.row
    without = harmonic[-2] * (wrong.sum() - wrong) - above[g] - (groups.errors[g] - wrong) * smaller[g] - below[g]
    total = harmonic[-1] * wrong.sum() - same.sum()
    return np.asarray(total - without, dtype=np.float64)


def _harmonic(size: int) -> Floats:
    """H_0 ... H_size."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, size + 1))])


def _mean_harmonic(harmonic: Floats, above: Integers, count: Integers) -> Floats:
    """The mean of H_{r-1} over the ranks r = above+1 ... above+count."""
    # Σ_{r ≤ n} H_{r-1}; differences of it lose digits when n is large, which a single rank need not suffer.
    prefix = np.concatenate([[0.0], np.cumsum(harmonic[:-1])])
    return np.where(count == 1, harmonic[above], (prefix[above + count] - prefix[above]) / count)
