"""The page of one trained model: how good, how calibrated, and what it confuses."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import numpy as np

from labelsmooth.metrics.binomial import wilson
from labelsmooth.metrics.catalogue import CATALOGUE
from labelsmooth.models.records import TrainingRecord
from labelsmooth.report.figures import confidence_picture, curve, reliability_picture, training_picture
from labelsmooth.report.numbers import interval, percent, title, value
from labelsmooth.report.page import render, write
from labelsmooth.report.svg import Picture
from labelsmooth.report.tables import Card, Cell, Row, Table

__all__ = ["confusion_matrix", "metrics_table", "render_training", "write_training"]

METRICS = ("error", "nll", "brier", "ece", "confidence_gap", "aurc")
CARDS = ("error", "ece", "nll", "confidence_gap")
MOST_CLASSES = 40  # of the confusion matrix: the most confused ones
MOST_PAIRS = 12


def write_training(record: TrainingRecord, path: str | os.PathLike[str]) -> None:
    """Write the page of a training to a file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    write(render_training(record), path)


def render_training(record: TrainingRecord) -> str:
    """The page as a string.  Everything that came from outside, class and file names, is escaped."""
    applied = record.metrics[record.applied]
    return render(
        "training.html.j2",
        title=f"A classifier of {record.data['name']}",
        lead=record.sentence,
        tone="",
        record=record,
        cards=[
            Card(title(m), value(m, applied[m].value), f"95% interval {interval(m, applied[m].low, applied[m].high)}")
            for m in CARDS
        ],
        results=metrics_table(record),
        pictures=_pictures(record),
        classes=_classes_table(record),
        pairs=_pairs_table(record),
        matrix=confusion_matrix(record),
        versions=list(record.versions.items()),
        recipe=json.dumps(record.recipe, indent=1),
        command=record.command,
    )


def metrics_table(record: TrainingRecord) -> Table:
    """A row for each metric, a column for the probabilities as trained and one for the calibrated ones."""
    rows = []
    for name in METRICS:
        measured = [metrics[name] for metrics in record.metrics.values()]
        cells = [Cell(value(name, m.value), interval(name, m.low, m.high)) for m in measured]
        rows.append(Row(title(name), cells, CATALOGUE[name].meaning))
    columns = [f"{key} *" if key == record.applied else key for key in record.metrics]
    return Table(["On the test part", *columns], rows, "* what the model predicts with; 95% intervals over test images")


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


def confusion_matrix(record: TrainingRecord, most: int = MOST_CLASSES) -> ConfusionMatrix:
    """The confusion matrix of the most confused classes, sorted by confusion."""
    counts = np.array(record.confusion)
    mistakes = counts * (1 - np.eye(len(counts), dtype=int))
    chosen = np.sort(np.argsort(-(mistakes.sum(0) + mistakes.sum(1)), kind="stable")[:most])
    order = chosen[_by_confusion(mistakes[np.ix_(chosen, chosen)])]
    totals = np.maximum(counts.sum(1), 1)
    cells = []
    for i, j in np.argwhere(counts[np.ix_(order, order)]):
        label, predicted = order[i], order[j]
        count, total = int(counts[label, predicted]), int(totals[label])
        words = f"{record.classes[label]} predicted as {record.classes[predicted]}: {count} of {total}"
        cells.append(ConfusionCell(int(i), int(j), count, count / total, words))
    return ConfusionMatrix([record.classes[k] for k in order], cells, len(counts) - len(order))


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


def _classes_table(record: TrainingRecord) -> Table:
    """Each class: how many of its images are found (recall), and how many predictions of it are right (precision)."""
    counts = np.array(record.confusion)
    right = np.diag(counts)
    rows = []
    for k in np.argsort(right / np.maximum(counts.sum(1), 1), kind="stable"):
        cells = [Cell(str(counts[k].sum())), _share(right[k], counts[k].sum()), _share(right[k], counts[:, k].sum())]
        rows.append(Row(record.classes[k], cells))
    note = "The least accurate classes first, with Wilson's 95% intervals."
    return Table(["Class", "Test images", "Of its images, predicted so", "Of such predictions, right"], rows, note)


def _share(part: int, whole: int) -> Cell:
    if not whole:
        return Cell("none")
    low, high = wilson(np.array(part / whole), np.array(float(whole)), 0.95)
    return Cell(percent(part / whole), f"{percent(float(low)).rstrip('%')} to {percent(float(high))}")


def _pairs_table(record: TrainingRecord) -> Table:
    """The pairs of classes that are confused most often."""
    wrong = np.array(record.confusion) * (1 - np.eye(len(record.classes), dtype=int))
    places = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [(int(place) // len(wrong), int(place) % len(wrong)) for place in places]
    totals = np.array(record.confusion).sum(1)
    rows = [
        Row(record.classes[i], [Cell(record.classes[j]), Cell(f"{wrong[i, j]} of {totals[i]}")])
        for i, j in pairs
        if wrong[i, j]
    ]
    return Table(["Label", "Predicted as", "Images"], rows)


def _pictures(record: TrainingRecord) -> list[Picture]:
    curves = {key: curve(reliability) for key, reliability in record.reliability.items()}
    metrics, reliability = record.metrics[record.applied], record.reliability[record.applied]
    accuracy = 1 - metrics["error"].value
    return [
        reliability_picture("Reliability", curves),
        confidence_picture("Confidence", reliability.histogram, accuracy + metrics["confidence_gap"].value, accuracy),
        training_picture("Training", [record.history], record.epochs),
    ]
