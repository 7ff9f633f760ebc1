"""Each class by itself: precision, recall and calibration with intervals, and two models compared class by class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from labelsmooth.metrics.calibration_error import ece
from labelsmooth.metrics.compare import Difference, differences
from labelsmooth.metrics.counts import counts_of
from labelsmooth.metrics.inputs import read, read_scores
from labelsmooth.metrics.interval import Estimate, Interval, estimates, share_estimate
from labelsmooth.metrics.pointwise import class_gap_statistic, error
from labelsmooth.metrics.rows import Array, Reduced


@dataclass(frozen=True)
class ClassMetrics:
    """One class: how many predictions have it as label and as prediction, and its metrics.

    `precision` is the share of the predictions of the class that are right, `recall` the share of its examples that are
    predicted; both NaN, from 0 to 1, where there are none. `gap` is the mean of p_k minus the share of the class, `ece`
    the calibration error of p_k.
    """

    label: int
    labelled: int
    predicted: int
    precision: Estimate
    recall: Estimate
    gap: Estimate
    ece: Estimate


def per_class(
    probabilities: Array | None = None,
    labels: Array | None = None,
    *,
    logits: Array | None = None,
    ignore_index: int | None = None,
    interval: float | Interval = 0.95,
) -> list[ClassMetrics]:
    """Precision, recall and calibration of each class, with intervals.

    Args:
        probabilities, labels, logits, ignore_index: as in :func:`labelsmooth.metrics.error`.
        interval: a level or an :class:`Interval`; Clopper and Pearson's for precision, recall and gap.

    Returns:
        A :class:`ClassMetrics` for each of the K classes. K intervals at 95% miss K/20 of the truths.

    Raises:
        ValueError: as in :func:`labelsmooth.metrics.error`.

    Example:
        >>> import numpy as np
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
        >>> first, second = per_class(p, np.array([0, 0, 1, 1]))
        >>> first.recall.value, second.recall.value, second.precision.value
        (1.0, 0.5, 1.0)
    """
    settings = interval if isinstance(interval, Interval) else Interval(interval)
    rows = read(probabilities, labels, logits, ignore_index)
    counts = counts_of(rows)

    results = []
    for k, (labelled, predicted, correct) in enumerate(
        zip(counts.labelled, counts.predicted, counts.correct, strict=True)
    ):
        distances = [partial(class_gap_statistic, scope=k), partial(ece.statistic, scope=k)]
        precision, recall = (share_estimate(correct, among, settings.level) for among in (predicted, labelled))
        results.append(ClassMetrics(k, labelled, predicted, precision, recall, *estimates(rows, distances, settings)))
    return results


def compare_classes(
    first: Array,
    second: Array,
    labels: Array,
    *,
    scores: Literal["probabilities", "logits"] = "probabilities",
    interval: float | Interval = 0.95,
    ignore_index: int | None = None,
) -> list[Difference]:
    """Compare two models class by class: the error among the examples of each class, paired.

    Args:
        first, second, labels, scores, interval, ignore_index: as in :func:`labelsmooth.metrics.compare`.

    Returns:
        A :class:`Difference` for each class. The intervals are of each class by itself; the p-values are corrected for
        the number of classes (Holm), and the verdicts are made from them.

    Raises:
        ValueError: as in :func:`labelsmooth.metrics.compare`.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> z = rng.normal(size=(2_000, 3))
        >>> y = (z + rng.gumbel(size=z.shape)).argmax(1)
        >>> worse = z + np.array([2.0, 0.0, 0.0])  # predicts class 0 too often
        >>> [difference.verdict for difference in compare_classes(z, worse, y, scores="logits")]
        ['higher', 'lower', 'lower']

    Source: McNemar (1947); Holm (1979).
    """
    settings = interval if isinstance(interval, Interval) else Interval(interval)
    one, two = (read_scores(p, labels, scores, ignore_index) for p in (first, second))
    label = one.labels.cpu().numpy()
    parts = [Reduced.join([rows]) for rows in (one, two)]
    results: list[Difference | None] = []
    for k in range(one.classes):
        of_class = label == k
        if not of_class.any():
            results.append(None)
            continue
        left, right = (part.select(of_class) for part in parts)
        results.append(differences(left, right, settings, {"error": error.statistic})["error"])
    return _holm(results, 1.0 - settings.level)


def _holm(uncorrected: list[Difference | None], size: float) -> list[Difference]:
    """The differences with p-values corrected for how many there are, and verdicts made from those."""
    tested = sorted((d.p_value, k) for k, d in enumerate(uncorrected) if d is not None)
    corrected, largest = {}, 0.0
    for rank, (p_value, k) in enumerate(tested):
        largest = max(largest, min(1.0, p_value * (len(tested) - rank)))
        corrected[k] = largest
    nan = float("nan")
    results = []
    for k, difference in enumerate(uncorrected):
        if difference is None:  # no example has this label
            results.append(Difference(nan, -1.0, 1.0, 1.0, nan, nan, 1.0 - size, "no examples", "too few rows"))
            continue
        verdict = difference.verdict
        if verdict not in ("too few rows", "identical"):
            side: Literal["lower", "higher"] = "lower" if difference.value < 0.0 else "higher"
            verdict = side if corrected[k] < size else "no significant difference"
        results.append(replace(difference, p_value=corrected[k], verdict=verdict))
    return results
