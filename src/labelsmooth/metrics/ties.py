"""Rows in order of falling confidence with the tied together: sums over ranks, expected over the orders of ties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labelsmooth.metrics.binning import sum_by
from labelsmooth.metrics.rows import Floats, Integers


@dataclass(frozen=True)
class TieGroups:
    """The group of each row [M], and per group the count of rows above it, its size and its errors [G]."""

    row: Integers
    above: Integers
    size: Integers
    errors: Floats

    @classmethod
    def of(cls, confidence: Floats, wrong: Floats, weight: Floats | None = None) -> TieGroups:
        """Group rows [M] by confidence, the most confident first; a row of weight w is w tied rows."""
        _, row, size = np.unique(-confidence, return_inverse=True, return_counts=True)
        size, row = size.astype(np.int64), row.reshape(-1).astype(np.int64)
        groups = cls(row, np.cumsum(size) - size, size, sum_by(row, wrong, size.shape[0]))
        return groups if weight is None else groups.counted(weight, wrong)

    def counted(self, counts: Floats, wrong: Floats) -> TieGroups:
        """The same groups where each row is there `counts` times (copies of a row are tied, too); empty ones stay."""
        size = np.rint(sum_by(self.row, counts, self.size.shape[0])).astype(np.int64)
        return TieGroups(self.row, np.cumsum(size) - size, size, sum_by(self.row, counts * wrong, size.shape[0]))


def area(groups: TieGroups) -> float:
    """The expected AURC: every member of a tie group gets the mean of H_N - H_{r-1} over the group's ranks r."""
    size = int(groups.size.sum())
    last = float(_harmonic(np.array(size)))
    return float(groups.errors @ (last - _mean_harmonic(groups.above, groups.size))) / size


def weighted_area(groups: TieGroups, wrong: Floats) -> Callable[[Floats], float]:
    """The AURC as a function of the rows' counts: :func:`area` with all that does not change done once."""
    order = np.argsort(groups.row, kind="stable")
    members_of = np.bincount(groups.row)
    starts = np.cumsum(members_of) - members_of
    tied = len(starts) < len(order)
    errors_sorted = wrong[order]
    with_errors = np.flatnonzero(groups.errors > 0)
    table = np.empty(0)

    def weighted(counts: Floats) -> float:
        nonlocal table
        sorted_counts = counts[order]
        size = np.add.reduceat(sorted_counts, starts) if tied else sorted_counts
        upto = np.rint(np.cumsum(size)).astype(np.int64)
        total = int(upto[-1])
        if len(table) <= total < _TABLE:  # examples of several rows make resamples of varying length
            table = _ranks(np.arange(2 * total + 1))
        bottom, members = upto[with_errors], size[with_errors]
        top = bottom - np.rint(members).astype(np.int64)
        ranks = table[bottom] - table[top] if total < _TABLE else _ranks(bottom) - _ranks(top)
        errors = members
        if tied:
            errors = np.add.reduceat(sorted_counts * errors_sorted, starts)[with_errors]
            ranks = ranks * errors / np.maximum(members, 1.0)
        return float(errors.sum() * float(_harmonic(np.array(total))) - ranks.sum()) / total

    return weighted


def risk_at(groups: TieGroups, coverage: float) -> float:
    """The expected error of the first ⌈coverage · N⌉ rows."""
    size = int(groups.size.sum())
    # The slack keeps 0.7 · 10 from being 8 rows.
    kept = max(1, int(np.ceil(coverage * size - 1e-9 * size)))
    taken = np.clip(kept - groups.above, 0, groups.size)
    return float(groups.errors @ (taken / np.maximum(groups.size, 1))) / kept


def pseudo_values(groups: TieGroups, wrong: Floats) -> Floats:
    """Jackknife pseudo-values N·T - (N-1)·T₋ᵢ of the AURC T, exact and in one pass, [M].

    Without row i there are N-1 ranks; groups above keep theirs, its own group has one member fewer, and the groups
    below move up by one. Prefix sums over the groups give every T₋ᵢ at once.
    """
    size = int(groups.size.sum())
    if size == 1:
        return wrong.astype(np.float64)
    same = groups.errors * _mean_harmonic(groups.above, groups.size)
    # The first group has nothing above it and is never below a removed row: its shifted ranks are not used.
    moved = groups.errors * _mean_harmonic(np.maximum(groups.above - 1, 0), groups.size)
    above = np.cumsum(same) - same
    below = moved.sum() - np.cumsum(moved)
    smaller = _mean_harmonic(groups.above, np.maximum(groups.size - 1, 1))
    g = groups.row
    before, last = _harmonic(np.array([size - 1, size]))
    without = before * (wrong.sum() - wrong) - above[g] - (groups.errors[g] - wrong) * smaller[g] - below[g]
    total = last * wrong.sum() - same.sum()
    return np.asarray(total - without, dtype=np.float64)


_FEW = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, 1000))])
# Resamples of up to this many rows look their ranks up.
_TABLE = 1 << 17


def _harmonic(n: Integers) -> Floats:
    """H_n: sums for small n, else Euler and Maclaurin's series, whose first left-out term is below 1e-20."""
    wide = np.maximum(n, 1).astype(np.float64)
    series = np.log(wide) + np.euler_gamma + 1 / (2 * wide) - 1 / (12 * wide**2) + 1 / (120 * wide**4)
    return np.where(n < len(_FEW), _FEW[np.minimum(n, len(_FEW) - 1)], series)


def _ranks(n: Integers) -> Floats:
    """Σ_{r ≤ n} H_{r-1} = n (H_n - 1)."""
    return np.asarray(n * (_harmonic(n) - 1.0))


def _mean_harmonic(above: Integers, count: Integers) -> Floats:
    """The mean of H_{r-1} over the ranks r = above+1 ... above+count; an empty group (count 0) gets any number."""
    # Differences of the sums lose digits when n is large, which a single rank need not suffer.
    several = (_ranks(above + count) - _ranks(above)) / np.maximum(count, 1)
    return np.where(count <= 1, _harmonic(above), several)
