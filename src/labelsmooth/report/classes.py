"""What a page says of the classes: accuracy and calibration of each, the most confused pairs, the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelsmooth.metrics import ClassCounts
from labelsmooth.metrics.binomial import clopper_pearson
from labelsmooth.metrics.numbers import estimate, percent
from labelsmooth.report.tables import Cell, Row, Table

MOST_CLASSES = 40  # of the confusion matrix: the most confused ones
MOST_PAIRS = 12
MOST_ROWS = 100  # of the table: the classes with the lowest recall


def classes_table(counts: ClassCounts, names: Sequence[str] = ()) -> Table:
    """For each class, lowest recall first: recall, precision, and the confidence of the predictions of that class."""
    labelled, predicted, correct = (np.array(part) for part in (counts.labelled, counts.predicted, counts.correct))
    order = np.argsort(correct / np.maximum(labelled, 1), kind="stable")
    rows = []
    for k in order[:MOST_ROWS]:
        name = names[k] if len(names) else f"class {k}"
        cells = [Cell(f"{labelled[k]:,}"), _share(correct[k], labelled[k]), _share(correct[k], predicted[k])]
        rows.append(Row(name, cells + _confidence(counts.confidence[k], correct[k], predicted[k])))
    note = (
        "Recall: share of the rows of a class that are predicted as it. Precision: share of the predictions of a class "
        "that are right; confidence: their mean confidence; gap: confidence minus precision. Clopper and Pearson's 95% "
        "intervals; by chance up to one class in twenty lies outside."
    )
    if len(order) > MOST_ROWS:
        note += f" The {MOST_ROWS} classes of {len(order):,} with the lowest recall."
    return Table(["Class", "Rows", "Recall", "Precision", "Confidence", "Gap", ""], rows, note)


def _share(part: int, whole: int) -> Cell:
    if not whole:
        return Cell("–")
    return Cell(*estimate("error", part / whole, *clopper_pearson(part, whole, 0.95)))


def _confidence(total: float, correct: int, predicted: int) -> list[Cell]:
    """Mean confidence, the gap with the interval that the precision's gives, and its side where that excludes 0."""
    if not predicted:
        return [Cell("–"), Cell("–"), Cell("")]
    mean, precision = total / predicted, correct / predicted
    low, high = clopper_pearson(correct, predicted, 0.95)
    ends = mean - high, mean - low
    word = "over-confident" if ends[0] > 0 else "under-confident" if ends[1] < 0 else ""
    return [Cell(percent(mean)), Cell(*estimate("confidence_gap", mean - precision, *ends)), Cell(word)]


def pairs_table(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> Table:
    """The pairs of classes that are confused most often."""
    counts = np.array(confusion)
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    rows = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]:
        label, predicted = divmod(int(place), len(wrong))
        if wrong[label, predicted]:
            cell = Cell(f"{wrong[label, predicted]} of {counts[label].sum()}")
            rows.append(Row(f"{names[label]} as {names[predicted]}", [cell]))
    return Table(["Label, predicted as", "Images"], rows)


@dataclass(frozen=True)
class ConfusionCell:
    """Test images with one label that were predicted as one class; `share` is of those with the label."""

    row: int
    column: int
    count: int
    share: float
    description: str


@dataclass(frozen=True)
class ConfusionMatrix:
    """The classes in an order that puts those together that are confused, and every cell that is not empty."""

    classes: list[str]
    cells: list[ConfusionCell]
    left_out: int


def confusion_matrix(
    confusion: Sequence[Sequence[int]], names: Sequence[str], most: int = MOST_CLASSES
) -> ConfusionMatrix:
    """The confusion matrix of the most confused classes, sorted by confusion."""
    counts = np.array(confusion)
    mistakes = counts * (1 - np.eye(len(counts), dtype=int))
    chosen = np.sort(np.argsort(-(mistakes.sum(0) + mistakes.sum(1)), kind="stable")[:most])
    order = chosen[_by_confusion(mistakes[np.ix_(chosen, chosen)])]
    totals = np.maximum(counts.sum(1), 1)
    cells = []
    for i, j in np.argwhere(counts[np.ix_(order, order)]):
        label, predicted = order[i], order[j]
        count, total = int(counts[label, predicted]), int(totals[label])
        words = f"{names[label]} predicted as {names[predicted]}: {count} of {total}"
        cells.append(ConfusionCell(int(i), int(j), count, count / total, words))
    return ConfusionMatrix([names[k] for k in order], cells, len(counts) - len(order))


def _by_confusion(mistakes: np.ndarray) -> np.ndarray:
    """An order of the classes in which those that are confused are neighbours: the leaves of a clustering."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    both = mistakes + mistakes.T
    if len(both) < 3 or not both.any():
        return np.arange(len(both))
    distance = 1.0 / (1.0 + both)
    np.fill_diagonal(distance, 0.0)
    return np.asarray(leaves_list(linkage(squareform(distance), "average", optimal_ordering=True)))
