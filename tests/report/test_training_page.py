"""The page of a training: what it says of the classes, and that names from outside are escaped."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from labelsmooth.data import Columns
from labelsmooth.metrics import class_counts, per_class, reliability_curve, summary
from labelsmooth.metrics.numbers import estimate
from labelsmooth.models.records import CalibratorRecord, Measured, Mistake, TrainingData, TrainingRecord
from labelsmooth.report.classes import classes_table, confusion_matrix, pairs_table
from labelsmooth.report.figures import training_picture
from labelsmooth.report.training import metrics_table, render_training

CLASSES = ["<b>cat</b>", "dog", "fox", "owl"]


@pytest.fixture(scope="module")
def record() -> TrainingRecord:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    logits = rng.normal(size=(200, 4)) + 3 * np.eye(4)[labels]
    logits[:, 3] += 2 * (labels == 0)  # cats look like owls
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confusion = np.zeros((4, 4), int)
    np.add.at(confusion, (labels, p.argmax(1)), 1)
    metrics = {name: Measured(e.value, e.low, e.high) for name, e in summary(p, labels).items()}
    return TrainingRecord(
        classes=CLASSES,
        data=TrainingData("pets & co", "", 0, [0.1, 0.1, 0.8], ["a<.jpg"], [], False, Columns(), 10, 5, 200),
        recipe={"backbone": "resnet18"},
        sentence="Over-confident.",
        metrics={"as trained": metrics},
        calibrator=CalibratorRecord("", "Too few examples.", False),
        reliability={"as trained": reliability_curve(p, labels, binning="equal-width").plain()},
        confusion=confusion.tolist(),
        class_counts=class_counts(p, labels),
        mistakes=[Mistake("a/<i>.jpg", "dog", "<b>cat</b>", 0.987, "")],
        history={"train_nll": [1.0, 0.5], "validation_nll": [1.1, None]},
        seconds=1.0,
        epochs=2,
        versions={"torch": "2"},
        command="labelsmooth train <pets>",
    )


def test_the_page_says_everything_once_and_escapes_names(record):
    page = render_training(record)
    for heading in ("Results", "The most confident mistakes", "Confusion", "Classes", "Settings"):
        assert page.count(f"<h2>{heading}</h2>") == 1
    assert page.count('<svg role="img"') == 4  # reliability, confidence, training, confusion
    assert "<b>cat" not in page
    assert "<i>" not in page
    assert "labelsmooth train &lt;pets&gt;" in page
    assert "(98.7%)" in page


def test_numbers_are_written_in_one_style(record):
    page = render_training(record)
    text = re.sub(r"(?s)<style>.*?</style>|<svg.*?</svg>|<pre>.*?</pre>|<[^>]+>", " ", page)
    assert not re.search(r"\d %", text)
    gap = next(row for row in metrics_table(record).rows if row.title == "Confidence gap")
    assert re.fullmatch(r"[+-]\d+\.\d points", gap.cells[0].text)


def test_the_most_confused_pair_comes_first_and_its_classes_are_neighbours(record):
    counts = np.array(record.confusion)
    row = pairs_table(record.confusion, CLASSES).rows[0]
    assert row.title == "<b>cat</b> as owl"
    assert row.cells[0].text == f"{counts[0, 3]} of {counts[0].sum()}"
    matrix = confusion_matrix(record.confusion, CLASSES)
    assert abs(matrix.classes.index("<b>cat</b>") - matrix.classes.index("owl")) == 1
    assert sorted(matrix.classes) == sorted(CLASSES)
    for cell in matrix.cells:
        label, predicted = (CLASSES.index(matrix.classes[k]) for k in (cell.row, cell.column))
        assert cell.count == counts[label, predicted]
    assert sum(cell.count for cell in matrix.cells) == counts.sum()


def test_of_many_classes_the_most_confused_are_shown():
    confusion = 10 * np.eye(50, dtype=int)
    confusion[7, 31] = confusion[31, 7] = 3
    matrix = confusion_matrix(confusion.tolist(), [f"c{k}" for k in range(50)], most=5)
    assert matrix.left_out == 45
    assert {"c7", "c31"} <= set(matrix.classes)


def test_the_ece_of_the_page_is_the_only_one(record):
    """The picture's bins are of equal width: their ECE is another number."""
    page = render_training(record)
    assert f"{100 * record.metrics['as trained']['ece'].value:.1f}%" in page
    assert not re.search(r"as trained: ECE", page)


def test_an_ece_above_its_interval_is_explained(record):
    note = "† above its interval, because it counts chance as miscalibration too"
    above, metrics = Measured(0.022, 0.0, 0.017), record.metrics["as trained"]
    not_shown = replace(record, metrics={"as trained": metrics | {"smooth_ece": above}})
    assert note not in metrics_table(not_shown).note
    page = render_training(replace(record, metrics={"as trained": metrics | {"ece": above}}))
    assert page.count("2.2% †") == 2  # card and table
    assert "1 epoch in 1 second." in render_training(replace(record, epochs=1))
    assert note in page


def test_the_intervals_of_a_class_are_those_of_the_metrics(record):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    p = np.full((200, 4), 0.01) + 0.96 * np.eye(4)[labels]  # no error
    row = classes_table(class_counts(p, labels)).rows[0]
    first = per_class(p, labels)[0]
    for cell, share in zip(row.cells[1:3], (first.recall, first.precision), strict=True):
        assert (cell.text, cell.small) == estimate("error", share.value, share.low, share.high)
    assert row.cells[1].small.endswith(" to 100.0%")


def test_recall_precision_and_gap_of_a_class(record):
    table = classes_table(record.class_counts, CLASSES)
    counts = np.array(record.confusion)
    rows = {row.title: row.cells for row in table.rows}
    assert rows["dog"][1].text == f"{100 * counts[1, 1] / counts[1].sum():.1f}%"
    precision = counts[1, 1] / counts[:, 1].sum()
    assert rows["dog"][2].text == f"{100 * precision:.1f}%"
    confidence = record.class_counts.confidence[1] / record.class_counts.predicted[1]
    assert rows["dog"][4].text == f"{100 * (confidence - precision):+.1f} points"
    recalls = [counts[CLASSES.index(row.title)] for row in table.rows]
    shares = [row[CLASSES.index(name.title)] / row.sum() for row, name in zip(recalls, table.rows, strict=True)]
    assert shares == sorted(shares)


def test_a_class_without_rows_or_predictions_has_no_share():
    from labelsmooth.metrics import ClassCounts

    row = classes_table(ClassCounts([0], [0], [0], [0.0])).rows[0]
    assert [cell.text for cell in row.cells] == ["0", "–", "–", "–", "–", ""]


def test_the_picture_of_one_epoch_shows_a_point() -> None:
    one, two = ({"train_nll": [1.0] * n, "validation_nll": [1.2] * n} for n in (1, 2))
    (single, several) = (training_picture("Training", [history], 2).svg for history in (one, two))
    assert single.count("<use") - several.count("<use") > 0
