"""The curves of calibration and selective prediction as plain data: what :mod:`labelsmooth.report` draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelsmooth.metrics.binning import assign, check_binning, into_bins, sum_by
from labelsmooth.metrics.binomial import wilson
from labelsmooth.metrics.calibration_error import one_question
from labelsmooth.metrics.inputs import read
from labelsmooth.metrics.metric import Binning, Scope, Score
from labelsmooth.metrics.pointwise import error
from labelsmooth.metrics.rows import Array, Floats, Integers, Rows
from labelsmooth.metrics.selective import aurc, groups_of, ranked
from labelsmooth.metrics.statistic import weights_of
from labelsmooth.metrics.ties import risk_at

CELLS = 20
"""Cells of equal width of the histograms of confidence."""


@dataclass(frozen=True)
class Reliability:
    """A reliability curve and a histogram of confidence as JSON holds them: lists, and None for an empty bin.

    ``Reliability(**json.loads(text))`` reads what ``json.dumps(dataclasses.asdict(record))`` wrote.
    """

    edges: list[float]
    counts: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]
    histogram: list[int]  # of confidence, in 20 equal bins over [0, 1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.counts)} bins, {sum(self.counts)} rows)"


@dataclass(frozen=True)
class ReliabilityCurve:
    """B bins of confidence: their edges [B+1], and per bin [B] the count, mean confidence, accuracy and its interval.

    All but the count are NaN in an empty bin (possible for equal width only). `histogram` [20] counts the
    predictions in cells of equal width, whatever the bins are.
    """

    edges: Floats
    count: Integers
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    level: float
    histogram: Integers

    def __repr__(self) -> str:
        return f"ReliabilityCurve({len(self.count)} bins, {self.count.sum()} rows, ece={self.ece:.4g})"

    @property
    def gap(self) -> Floats:
        """Mean confidence minus accuracy per bin, [B]: above 0 over-confident. NaN in an empty bin."""
        return self.confidence - self.accuracy

    @property
    def ece(self) -> float:
        """The l1 ECE of these bins."""
        return float(np.nansum(self.count * np.abs(self.gap)) / self.count.sum())

    @property
    def mean_gap(self) -> float:
        """Mean confidence minus accuracy of all predictions."""
        return float(np.nansum(self.count * self.gap) / self.count.sum())

    def plain(self) -> Reliability:
        """The record that JSON holds."""

        def numbers(values: Floats) -> list[float | None]:
            return [float(value) if np.isfinite(value) else None for value in values]

        return Reliability(
            self.edges.tolist(),
            self.count.tolist(),
            numbers(self.confidence),
            numbers(self.accuracy),
            self.histogram.tolist(),
        )


@dataclass(frozen=True)
class RiskCoverage:
    """The error among the most confident predictions at each coverage [P], and the area under it."""

    coverage: Floats
    risk: Floats
    aurc: float
    error: float

    def __repr__(self) -> str:
        return f"RiskCoverage({len(self.risk)} points, aurc={self.aurc:.4g}, error={self.error:.4g})"


@dataclass(frozen=True)
class ConfidenceHistogram:
    """Cells [C] of confidence: edges [C+1], how many predictions are right and wrong; their mean confidence."""

    edges: Floats
    right: Integers
    wrong: Integers
    confidence: float

    def __repr__(self) -> str:
        rows = (self.right + self.wrong).sum()
        return f"ConfidenceHistogram({rows} rows, confidence={self.confidence:.4g}, accuracy={self.accuracy:.4g})"

    @property
    def accuracy(self) -> float:
        return float(self.right.sum() / (self.right.sum() + self.wrong.sum()))


def reliability_curve(
    probabilities: Array | None = None,
    labels: Array | None = None,
    bins: int = 15,
    binning: Binning = "equal-mass",
    *,
    logits: Array | None = None,
    scope: Scope = "top-label",
    level: float = 0.95,
    ignore_index: int | None = None,
) -> ReliabilityCurve:
    r"""Mean confidence and accuracy in each bin of confidence, with Wilson's interval of the accuracy.

    .. math:: c_b = \frac1{n_b} \sum_{i \in b} \text{conf}_i \qquad a_b = \frac1{n_b} \sum_{i \in b} \text{correct}_i

    Args:
        probabilities, labels, bins, binning, logits, ignore_index: as in :func:`labelsmooth.metrics.ece`.
        scope: "top-label", or an integer k for p_k against y = k.
        level: of the interval of each bin's accuracy, in (0, 1). The positions of a dense example count as independent.

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

    Source: Murphy and Winkler (1977); the interval: Wilson (1927).
    """
    check_binning(bins, binning)
    return curve_of(read(probabilities, labels, logits, ignore_index), bins, binning, scope, level)


def curve_of(
    rows: Rows, bins: int = 15, binning: Binning = "equal-mass", scope: Scope = "top-label", level: float = 0.95
) -> ReliabilityCurve:
    """:func:`reliability_curve` of validated rows."""
    confidence, correct = one_question(rows, scope)
    binned = into_bins(confidence, correct, bins, binning, rows.weight)
    count = np.where(binned.count > 0, binned.count, np.nan)
    accuracy = binned.correct / count
    low, high = wilson(accuracy, count, level)
    histogram = np.histogram(np.clip(confidence, 0.0, 1.0), CELLS, (0.0, 1.0), weights=rows.weight)[0]
    return ReliabilityCurve(
        edges=binned.edges,
        count=np.rint(binned.count).astype(np.int64),
        confidence=binned.confidence / count,
        accuracy=accuracy,
        low=low,
        high=high,
        level=level,
        histogram=np.rint(histogram).astype(np.int64),
    )


def risk_coverage(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    score: Score = "max-probability",
    p: float = 2.0,
    points: int = 200,
    ignore_index: int | None = None,
) -> RiskCoverage:
    """The risk-coverage curve at evenly spaced coverages.

    Args:
        probabilities, labels, logits, score, p, ignore_index: as in :func:`labelsmooth.metrics.aurc`.
        points: how many coverages, from 1/points to 1.

    Returns:
        A :class:`RiskCoverage` of plain arrays.

    Raises:
        ValueError: as in :func:`labelsmooth.metrics.aurc`, or for points below 1.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
        >>> risk_coverage(p, np.array([0, 0, 1, 0]), points=4).risk.round(3)
        array([0.   , 0.   , 0.333, 0.25 ])

    Source: El-Yaniv and Wiener (2010).
    """
    return risk_coverage_of(read(probabilities, labels, logits, ignore_index), score, p, points)


def risk_coverage_of(rows: Rows, score: Score = "max-probability", p: float = 2.0, points: int = 200) -> RiskCoverage:
    """:func:`risk_coverage` of validated rows."""
    if points < 1:
        raise ValueError(f"points must be at least 1, not {points!r}.")
    groups = groups_of(ranked(rows, score, p))
    coverage = np.arange(1, points + 1) / points
    risk = np.array([risk_at(groups, share) for share in coverage])
    return RiskCoverage(coverage, risk, aurc.statistic(rows, score, p).value, error.statistic(rows).value)


def confidence_histogram(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    cells: int = CELLS,
    ignore_index: int | None = None,
) -> ConfidenceHistogram:
    """How often each confidence occurs, right and wrong.

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`labelsmooth.metrics.error`.
        cells: of equal width, from 0 to 1.

    Returns:
        A :class:`ConfidenceHistogram` of plain arrays.

    Raises:
        ValueError: as in :func:`labelsmooth.metrics.error`, or for cells below 1.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
        >>> histogram = confidence_histogram(p, np.array([0, 0, 1]), cells=4)
        >>> histogram.right, histogram.wrong
        (array([0, 0, 0, 2]), array([0, 0, 1, 0]))
    """
    return histogram_of(read(probabilities, labels, logits, ignore_index), cells)


def histogram_of(rows: Rows, cells: int = CELLS) -> ConfidenceHistogram:
    """:func:`confidence_histogram` of validated rows."""
    if cells < 1:
        raise ValueError(f"cells must be at least 1, not {cells!r}.")
    edges, ones = np.linspace(0.0, 1.0, cells + 1), weights_of(rows)
    index = assign(rows.confidence, edges)
    right = np.rint(sum_by(index, ones * rows.correct, cells)).astype(np.int64)
    wrong = np.rint(sum_by(index, ones * (1.0 - rows.correct), cells)).astype(np.int64)
    return ConfidenceHistogram(edges, right, wrong, float((ones * rows.confidence).sum() / ones.sum()))
