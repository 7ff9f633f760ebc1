"""Rows in order of falling confidence with the tied together: sums over ranks, expected over the orders of ties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .binning import sum_by
from .inputs import Floats, Integers


@dataclass(frozen=True)
class TieGroups:
    """The group of each row [M], and per group the count of rows above it, its size and its errors [G]."""

    row: Integers
    above: Integers
    size: Integers
    errors: Floats

    @classmethod
    def of(cls, confidence: Floats, wrong: Floats) -> TieGroups:
        """Group rows [M] by confidence, the most confident first."""
        _, row, size = np.unique(-confidence, return_inverse=True, return_counts=True)
        size, row = size.astype(np.int64), row.reshape(-1).astype(np.int64)
        return cls(row, np.cumsum(size) - size, size, sum_by(row, wrong, size.shape[0]))

    def counted(self, counts: Floats, wrong: Floats) -> TieGroups:
        """The same groups where each row is there `counts` times (copies of a row are tied, too); empty ones stay."""
        size = sum_by(self.row, counts, self.size.shape[0]).astype(np.int64)
        return TieGroups(self.row, np.cumsum(size) - size, size, sum_by(self.row, counts * wrong, size.shape[0]))


def area(groups: TieGroups) -> float:
    """The expected AURC: every member of a tie group gets the mean of H_N - H_{r-1} over the group's ranks r."""
    size = int(groups.size.sum())
    harmonic = _harmonic(size)
    return float(groups.errors @ (harmonic[size] - _mean_harmonic(harmonic, groups.above, groups.size))) / size


def weighted_area(groups: TieGroups, wrong: Floats) -> Callable[[Floats], float]:
    """The AURC as a function of the rows' counts: :func:`area` with all that does not change done once."""
    order = np.argsort(groups.row, kind="stable")
    starts = groups.above
    tied = len(starts) < len(order)
    errors_sorted = wrong[order]
    with_errors = np.flatnonzero(groups.errors > 0)
    table = np.empty(0)  # Σ_{r ≤ n} H_{r-1} = n (H_n - 1)
    last = np.empty(0)

    def weighted(counts: Floats) -> float:
        nonlocal table, last
        sorted_counts = counts[order]
        size = np.add.reduceat(sorted_counts, starts) if tied else sorted_counts
        upto = np.cumsum(size).astype(np.int64)
        total = int(upto[-1])
        if len(table) <= total:  # examples of several rows make resamples of varying length
            last = _harmonic(2 * total)
            table = np.arange(len(last)) * (last - 1.0)
        bottom, members = upto[with_errors], size[with_errors]
        ranks = table[bottom] - table[bottom - members.astype(np.int64)]
        errors = members
        if tied:
            errors = np.add.reduceat(sorted_counts * errors_sorted, starts)[with_errors]
            ranks = ranks * errors / np.maximum(members, 1.0)
        return float(errors.sum() * last[total] - ranks.sum()) / total

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
    """The mean of H_{r-1} over the ranks r = above+1 ... above+count; an empty group (count 0) gets any number."""
    # Σ_{r ≤ n} H_{r-1} = n H_n - n; differences of it lose digits when n is large, which a single rank need not suffer.
    below = above + count
    several = (below * (harmonic[below] - 1.0) - above * (harmonic[above] - 1.0)) / np.maximum(count, 1)
    return np.where(count <= 1, harmonic[above], several)
