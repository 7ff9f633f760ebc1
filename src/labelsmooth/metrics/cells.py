"""Predictions of any number in cells of confidence: sums of fixed size from which every top-label metric is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from labelsmooth.metrics.rows import Floats, Integers, Reduced, Rows

CELLS = 16_384
# Groups of a comparison: resamples of 128 give the standard error to 6%.
_GROUPS = 128


@lru_cache
def edges_of_cells(cells: int) -> Floats:
    """The inner edges [cells - 1] of cells of confidence: half of the scale is p itself, half its log-odds.

    So a cell is at most 2 / cells wide in p, and finer near 1, where networks crowd. Log-odds between -16 and 48 cover
    every confidence of up to 10 million classes that float64 tells from 1.
    """
    p = np.concatenate([np.geomspace(1e-7, 0.5, 200_000), 1.0 - np.geomspace(0.5, 1e-16, 200_000)])
    p = np.unique(p[p < 1.0])
    odds = np.clip(np.log(p) - np.log1p(-p), -16.0, 48.0)
    scale = (p + (odds + 16.0) / 64.0) / 2.0
    return np.asarray(np.interp(np.arange(1, cells) / cells, scale, p))


def cell_of(confidence: Floats) -> Integers:
    """The cell of each confidence."""
    return np.asarray(np.searchsorted(edges_of_cells(CELLS), confidence, side="left"))


@dataclass
class Cells:
    """Sums over the predictions of each cell and of each answer (wrong, right): they add up over chunks and processes.

    Confidences in the same cell become their mean and count as tied. Per cell and answer the mean and the variance of
    NLL and squared error are kept, which is all that their means and resamples depend on.
    """

    count: Floats = field(default_factory=lambda: np.zeros(2 * CELLS))
    confidence: Floats = field(default_factory=lambda: np.zeros(CELLS))
    nll: Floats = field(default_factory=lambda: np.zeros((2, 2 * CELLS)))
    squared_error: Floats = field(default_factory=lambda: np.zeros((2, 2 * CELLS)))

    def add(self, rows: Rows) -> Integers:
        """Add rows; returns the entry (cell and answer) of each."""
        cell = cell_of(rows.confidence)
        entry: Integers = cell + CELLS * (rows.correct > 0)
        self.count += np.bincount(entry, minlength=2 * CELLS)
        self.confidence += np.bincount(cell, rows.confidence, CELLS)
        for sums, values in ((self.nll, rows.nll), (self.squared_error, rows.squared_error)):
            for power in (0, 1):
                sums[power] += np.bincount(entry, values ** (power + 1), 2 * CELLS)
        return entry

    def rows(self) -> Reduced:
        """The predictions as weighted rows: two for each entry, a standard deviation above and below its means."""
        entry = np.flatnonzero(self.count)
        count = self.count[entry]
        cell = entry % CELLS
        mean = self.confidence / np.maximum(self.count[:CELLS] + self.count[CELLS:], 1.0)
        return Reduced(
            confidence=np.tile(mean[cell], 2),
            correct=np.tile((entry >= CELLS).astype(np.float64), 2),
            nll=_around(self.nll[:, entry] / count),
            squared_error=_around(self.squared_error[:, entry] / count),
            weight=np.tile(count / 2.0, 2),
        )


def _around(moments: Floats) -> Floats:
    """Mean + deviation, then mean - deviation; where the mean is infinite so are both."""
    mean, square = moments
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
    deviation = np.where(np.isfinite(mean), deviation, 0.0)
    return np.concatenate([mean + deviation, mean - deviation])


class PairedCells:
    """Two models on the same examples: their cells in each of 128 random groups of examples, and row differences."""

    MEANS = ("error", "nll", "brier", "confidence_gap")

    def __init__(self, seed: int = 0) -> None:
        self.both = (Cells(), Cells())
        self.groups = tuple(np.zeros((_GROUPS, 2 * CELLS), dtype=np.float32) for _ in range(2))
        self.sums = np.zeros((2, len(self.MEANS)))
        self.rows = 0
        self._rng = np.random.default_rng(seed)

    def add(self, first: Rows, second: Rows) -> None:
        """Add the same examples' rows of both models."""
        group = self._rng.integers(0, _GROUPS, first.rows)
        for cells, counts, rows in zip(self.both, self.groups, (first, second), strict=True):
            np.add.at(counts, (group, cells.add(rows)), 1.0)
        with np.errstate(invalid="ignore"):
            differences = np.stack(
                [
                    second.correct - first.correct,
                    first.nll - second.nll,
                    first.squared_error - second.squared_error,
                    (first.confidence - first.correct) - (second.confidence - second.correct),
                ]
            )
        self.sums += np.stack([differences.sum(axis=1), (differences**2).sum(axis=1)])
        self.rows += first.rows

    def resampled(self, draws: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
        """Counts of both models' weighted rows in resamples of the groups, drawn together."""
        filled = [np.flatnonzero(cells.count) for cells in self.both]
        times = np.random.default_rng(seed).multinomial(_GROUPS, np.full(_GROUPS, 1.0 / _GROUPS), draws)
        for drawn in times.astype(np.float32):
            one, two = ((drawn @ g)[f].astype(np.float64) / 2.0 for g, f in zip(self.groups, filled, strict=True))
            yield np.tile(one, 2), np.tile(two, 2)
