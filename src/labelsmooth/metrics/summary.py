"""Every metric at once, from one reading of the predictions and one set of resamples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .binning import Binning
from .catalogue import SUMMARY, statistic_of
from .inputs import Array, Floats, Rows, read
from .interval import Estimate, Interval, estimates
from .statistic import Statistic


@dataclass(frozen=True)
class Reduced:
    """Predictions reduced to what top-label metrics need, 32 bytes a row whatever K: chunks of a file add up here.

    With a `weight` a row stands for that many predictions.
    """

    confidence: Floats
    correct: Floats
    nll: Floats
    squared_error: Floats
    weight: Floats | None = None

    @classmethod
    def join(cls, chunks: Iterable[Rows]) -> Reduced:
        """The rows of several chunks, one after the other; a row is an example."""
        parts = [(c.confidence, c.correct, c.nll, c.squared_error) for c in chunks]
        if not parts:
            raise ValueError("There are no predictions: nothing to measure.")
        return cls(*[np.concatenate(columns) for columns in zip(*parts, strict=True)])

    @property
    def rows(self) -> int:
        return int(self.confidence.shape[0])

    @property
    def example(self) -> None:
        return None

    @property
    def examples(self) -> int:
        return self.rows if self.weight is None else round(float(self.weight.sum()))

    def select(self, which: np.ndarray[tuple[int], np.dtype[np.bool_]] | slice) -> Reduced:
        """Some of the rows."""
        weight = None if self.weight is None else self.weight[which]
        return Reduced(self.confidence[which], self.correct[which], self.nll[which], self.squared_error[which], weight)


def summary(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    ignore_index: int | None = None,
    interval: float | Interval = 0.95,
) -> dict[str, Estimate]:
    """Error, NLL, Brier, ECE, smooth ECE, KS, confidence gap, AURC and E-AURC, each with its interval.

    Args:
        probabilities: (N, K), (N, K, d1, ...) or (N,), as in :func:`labelsmooth.metrics.error`.
        labels: (N,) or (N, d1, ...), integers in 0 ... K-1.
        logits: in place of probabilities.
        bins, binning: of the ECE.
        ignore_index: positions with this label are left out.
        interval: a level or an :class:`Interval`.

    Returns:
        :class:`Estimate` by name.

    Raises:
        ValueError: as in the metrics.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> p = rng.uniform(0.5, 1.0, 500)
        >>> found = summary(p, (rng.random(500) < p).astype(int))
        >>> found["ece"].low, found["error"].low < 0.25 < found["error"].high
        (0.0, True)
    """
    rows = read(probabilities, labels, logits, ignore_index)
    return summarise(rows, interval, bins, binning)


def summarise(
    rows: Rows, interval: float | Interval = 0.95, bins: int = 15, binning: Binning = "equal-mass"
) -> dict[str, Estimate]:
    """:func:`summary` of rows that are read already."""
    found = statistics(rows, bins, binning)
    return dict(zip(found, estimates(rows, list(found.values()), interval), strict=True))


def statistics(rows: Rows, bins: int = 15, binning: Binning = "equal-mass") -> dict[str, Statistic]:
    """The statistics of a summary, by name."""
    options = {"ece": {"bins": bins, "binning": binning}}
    return {name: statistic_of(name, rows, **options.get(name, {})) for name in SUMMARY}
