"""A metric as a statistic: its value, what each row adds to it, and what it is under resampled counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .inputs import Floats, Rows


@dataclass(frozen=True)
class Signed:
    """A distance T(S) of a vector S of signed sums, S(counts) linear in the counts of the rows: ECE, KS, smooth ECE.

    Such a distance is never negative and so is biased upwards; it needs S itself for an honest interval.
    `even` is the S [D] of a model that is off by the same amount everywhere, up to a factor; `separable` says that T is
    a weighted sum of |S_d|.
    """

    observed: Floats  # S [D] of the rows as they are
    sums: Callable[[Floats], Floats]  # counts of rows [M] -> S [D]
    distance: Callable[[Floats], Floats]  # S [..., D] -> T [...]
    even: Floats | None = None
    separable: bool = False


@dataclass(frozen=True)
class Statistic:
    """The value on the rows as they are; under counts of rows [M]; and influence values per row [M], where derived."""

    value: float
    weighted: Callable[[Floats], float]
    influence: Callable[[], Floats] | None = None
    signed: Signed | None = None


def mean_of(values: Floats, weight: Floats | None = None) -> Statistic:
    """The statistic of a mean over rows."""
    finite = bool(np.isfinite(values).all())

    def weighted(counts: Floats) -> float:
        # 0 · inf would be NaN: an infinite row that was not drawn counts for nothing.
        kept = values if finite else np.where(counts > 0, values, 0.0)
        # A product and a sum on one core: a threaded dot of this size waits for its threads.
        return float((counts * kept).sum() / counts.sum())

    return Statistic(float(values.mean()) if weight is None else weighted(weight), weighted, lambda: values)


def distance_of(signed: Signed, influence: Callable[[], Floats] | None = None) -> Statistic:
    """The statistic of a distance of signed sums."""
    return Statistic(
        value=float(signed.distance(signed.observed)),
        weighted=lambda counts: float(signed.distance(signed.sums(counts))),
        influence=influence,
        signed=signed,
    )


def ones_of(rows: Rows) -> Floats:
    """How often each row is there, [M]."""
    return np.ones(rows.rows) if rows.weight is None else rows.weight
