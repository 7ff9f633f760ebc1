"""A metric as a statistic: its value, what it is under resampled counts, and what its interval needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labelsmooth.metrics.binning import sum_by
from labelsmooth.metrics.rows import Floats, Integers, Rows


@dataclass(frozen=True)
class Signed:
    """A distance T(e) of signed sums e_c = Σ (confidence - correct) / N over cells c of rows: ECE, KS, smooth ECE.

    Such a distance is never negative and so is biased upwards. An interval needs the cells themselves: how many
    predictions each has and how many of them are right. The confidences of a cell are nearly the same. Where T is a
    weighted sum of absolute values, each of the sum of some cells, `group` says which sum a cell belongs to.
    """

    count: Floats  # predictions of each cell [C]
    confidence: Floats  # their mean confidence [C]
    correct: Floats  # right ones among them [C]
    size: float  # N, of which each question has its own cells
    sums: Callable[[Floats], Floats]  # counts of rows [M] -> e [C]
    distance: Callable[[Floats], Floats]  # e [..., C] -> T [...]
    group: Integers | None = None  # [C]
    questions: int = 1  # each with all the rows

    @property
    def widening(self) -> float:
        """Of the spread of T: a wrong answer changes the cells of two classes at once."""
        return 1.0 if self.questions == 1 else 2.0**0.5

    @property
    def observed(self) -> Floats:
        return (self.count * self.confidence - self.correct) / self.size


def signed_of(
    cell: Integers,
    cells: int,
    confidence: Floats,
    correct: Floats,
    weight: Floats,
    distance: Callable[[Floats], Floats],
    questions: int = 1,
) -> Signed:
    """The signed sums of rows in cells; of several questions, each with all the rows, one after the other."""
    count = sum_by(cell, weight, cells)

    def sums(counts: Floats) -> Floats:
        of_rows = counts if questions == 1 else np.tile(counts, questions)
        return np.asarray(sum_by(cell, of_rows * (confidence - correct), cells) / counts.sum())

    return Signed(
        count=count,
        confidence=sum_by(cell, weight * confidence, cells) / np.maximum(count, 1e-300),
        correct=sum_by(cell, weight * correct, cells),
        size=float(weight.sum()) / questions,
        sums=sums,
        distance=distance,
        questions=questions,
    )


@dataclass(frozen=True)
class Statistic:
    """The value on the rows as they are; under counts of rows [M]; and influence values per row [M], where derived.

    `rate` holds the 0 or 1 of each row [M] where the metric is their share, and `offset` what is added to the share:
    such a metric has the interval of a binomial. `rows` are those of a metric that ranks them, with their order.
    """

    value: float
    weighted: Callable[[Floats], float]
    influence: Callable[[], Floats] | None = None
    signed: Callable[[], Signed] | None = None
    rate: Floats | None = None
    offset: Floats | float = 0.0
    rows: Rows | None = None


def mean_of(
    values: Floats, weight: Floats | None = None, rate: Floats | None = None, offset: Floats | float = 0.0
) -> Statistic:
    """The statistic of a mean over rows."""
    finite = bool(np.isfinite(values).all())

    def weighted(counts: Floats) -> float:
        # 0 · inf would be NaN: an infinite row that was not drawn counts for nothing.
        kept = values if finite else np.where(counts > 0, values, 0.0)
        # A product and a sum on one core: a threaded dot of this size waits for its threads.
        return float((counts * kept).sum() / counts.sum())

    value = float(values.mean()) if weight is None else weighted(weight)
    return Statistic(value, weighted, lambda: values, rate=rate, offset=offset)


def weights_of(rows: Rows) -> Floats:
    """The number of predictions that each row stands for, [M]."""
    return np.ones(rows.rows) if rows.weight is None else rows.weight
