"""How each class fares, and the thresholds of a binary classifier: counts, so that chunks of predictions add up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from labelsmooth.metrics.inputs import read
from labelsmooth.metrics.rows import Array, Floats, Predictions, float64

STEP, ENDS = 0.02, 20.0
"""Cells of the log-odds of the positive class; those beyond ±20 are in the last cell of their side."""


Counts = TypeVar("Counts", "ClassCounts", "BinaryCounts")


def _added(one: Counts, two: Counts) -> Counts:
    """The counts of two parts of the rows together."""
    lists = [zip(getattr(one, field.name), getattr(two, field.name), strict=True) for field in fields(one)]
    return type(one)(*([a + b for a, b in pairs] for pairs in lists))


@dataclass(frozen=True)
class ClassCounts:
    """For each of K classes, as JSON holds it: how many rows have that label, how many are predicted as that class, how
    many are both, and the sum of the confidence of those predictions.  Counts of two parts of the rows add up."""

    labelled: list[int]
    predicted: list[int]
    correct: list[int]
    confidence: list[float]

    def __repr__(self) -> str:
        return f"ClassCounts({len(self.labelled)} classes, {sum(self.labelled)} rows)"

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return _added(self, other)


@dataclass(frozen=True)
class BinaryCounts:
    """How many rows of each label have their log-odds of the positive class in each cell; parts of the rows add up."""

    negative: list[int]
    positive: list[int]

    def __repr__(self) -> str:
        return f"BinaryCounts(negative={sum(self.negative)} rows, positive={sum(self.positive)} rows)"

    def __add__(self, other: BinaryCounts) -> BinaryCounts:
        return _added(self, other)


@dataclass(frozen=True)
class ThresholdCurve:
    """What a binary classifier does at each of T thresholds of the probability, from 1 down to 0.

    Arrays [T]: the threshold, the true positive rate (recall), the false positive rate, and the precision, which is NaN
    where nothing is predicted positive.  `auroc` is the area under the first two.
    """

    threshold: Floats
    recall: Floats
    false_positive_rate: Floats
    precision: Floats
    auroc: float

    def __repr__(self) -> str:
        return f"ThresholdCurve({len(self.threshold)} thresholds, auroc={self.auroc:.4g})"


def class_counts(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    ignore_index: int | None = None,
) -> ClassCounts:
    """Count labels, predictions and their confidence by class.

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`labelsmooth.metrics.error`.

    Returns:
        A :class:`ClassCounts`: recall is correct / labelled, precision correct / predicted, and the confidence gap of a
        class confidence / predicted - precision.

    Raises:
        ValueError: as in :func:`labelsmooth.metrics.error`.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
        >>> class_counts(p, np.array([0, 1, 1]))
        ClassCounts(2 classes, 3 rows)
    """
    return counts_of(read(probabilities, labels, logits, ignore_index))


def counts_of(rows: Predictions) -> ClassCounts:
    """:func:`class_counts` of validated rows."""
    label, predicted, size = rows.labels.cpu().numpy(), rows.predicted, rows.classes
    return ClassCounts(
        np.bincount(label, minlength=size).tolist(),
        np.bincount(predicted, minlength=size).tolist(),
        np.bincount(label[label == predicted], minlength=size).tolist(),
        np.bincount(predicted, weights=rows.confidence, minlength=size).tolist(),
    )


def binary_counts(
    probabilities: Array | None = None, labels: Array | None = None, *, logits: Array | None = None
) -> BinaryCounts:
    """Count the log-odds of the positive class, which is class 1, by label.

    Args:
        probabilities: (N,) or (N, 2).
        labels: (N,), 0 or 1.
        logits: in place of probabilities.

    Returns:
        A :class:`BinaryCounts`, for :func:`threshold_curve`.

    Raises:
        ValueError: as in :func:`labelsmooth.metrics.error`, or where there are not two classes.
    """
    rows = read(probabilities, labels, logits)
    if rows.classes != 2:
        raise ValueError(f"probabilities are of {rows.classes} classes; thresholds are for two.")
    odds, positive = _log_odds(rows), rows.labels.cpu().numpy() == 1
    cells = round(2 * ENDS / STEP)
    index = np.clip(np.floor((odds + ENDS) / STEP), 0, cells - 1).astype(np.int64)
    return BinaryCounts(
        np.bincount(index[~positive], minlength=cells).tolist(), np.bincount(index[positive], minlength=cells).tolist()
    )


def threshold_curve(counts: BinaryCounts) -> ThresholdCurve:
    """The ROC curve and the precision-recall curve: what is predicted positive at each threshold.

    Args:
        counts: from :func:`binary_counts`.

    Returns:
        A :class:`ThresholdCurve`; 0.5 is one of its thresholds.

    Raises:
        ValueError: if all rows have the same label.

    Example:
        >>> import numpy as np
        >>> threshold_curve(binary_counts(np.array([0.9, 0.6, 0.4, 0.2]), np.array([1, 0, 1, 0]))).auroc
        0.75

    Source: Fawcett (2006).
    """
    positive, negative = np.array(counts.positive[::-1]), np.array(counts.negative[::-1])
    if not positive.sum() or not negative.sum():
        raise ValueError("labels are all the same: there is no threshold to choose.")
    hits, alarms = (np.concatenate([[0], np.cumsum(part)]) for part in (positive, negative))
    lower = ENDS - STEP * np.arange(len(hits))
    with np.errstate(invalid="ignore"):
        precision = hits / np.where(hits + alarms > 0, hits + alarms, np.nan)
    recall, false_positive_rate = hits / hits[-1], alarms / alarms[-1]
    area = float(np.sum(np.diff(false_positive_rate) * (recall[1:] + recall[:-1]) / 2))
    return ThresholdCurve(1.0 / (1.0 + np.exp(-lower)), recall, false_positive_rate, precision, area)


def _log_odds(rows: Predictions) -> Floats:
    if rows.are_logits:
        return float64(rows.scores[:, 1] - rows.scores[:, 0])
    p = float64(rows.scores)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p[:, 1]) - np.log(p[:, 0]))
