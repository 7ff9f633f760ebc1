"""The page of one trained model: how good, how calibrated, and what it confuses."""

from __future__ import annotations

import json

from labelsmooth.files import StrPath
from labelsmooth.metrics.catalogue import CATALOGUE
from labelsmooth.metrics.numbers import estimate, level, title
from labelsmooth.models.records import MeasuredSets, TrainingRecord
from labelsmooth.report.classes import classes_table, confusion_matrix, pairs_table
from labelsmooth.report.figures import confidence_picture, curve, rate_picture, reliability_picture, training_picture
from labelsmooth.report.page import render, write
from labelsmooth.report.svg import Picture
from labelsmooth.report.tables import Card, Cell, Row, Table, is_above, marked

METRICS = ("error", "nll", "brier", "ece", "confidence_gap", "aurc")
CARDS = ("error", "ece", "nll", "confidence_gap")


def write_training(record: TrainingRecord, path: StrPath) -> None:
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
        title=f"A classifier of {record.data.name}",
        lead=record.sentence,
        tone="",
        record=record,
        cards=[
            *(
                Card(title(m), text, f"95% interval {ends}")
                for m, (text, ends) in ((m, marked(m, applied[m], "†")) for m in CARDS)
            ),
            *_sets_card(record.sets),
        ],
        results=metrics_table(record),
        pictures=_pictures(record),
        classes=classes_table(record.class_counts, record.classes),
        pairs=pairs_table(record.confusion, record.classes),
        matrix=confusion_matrix(record.confusion, record.classes),
        versions=list(record.versions.items()),
        recipe=json.dumps(record.recipe, indent=1),
        command=record.command,
    )


def metrics_table(record: TrainingRecord) -> Table:
    """A row for each metric, a column for the probabilities as trained and one for the calibrated ones."""
    rows = []
    for name in METRICS:
        cells = [Cell(*marked(name, metrics[name], "†")) for metrics in record.metrics.values()]
        rows.append(Row(title(name), cells, CATALOGUE[name].meaning))
    columns = [f"{key} *" if key == record.applied else key for key in record.metrics]
    note = "* what the model predicts with; 95% intervals over test images"
    if any(is_above(metrics[name]) for metrics in record.metrics.values() for name in METRICS):
        note += "; † above its interval, because it counts chance as miscalibration too"
    return Table(["On the test part", *columns], rows, note)


def _sets_card(sets: MeasuredSets | None) -> list[Card]:
    if sets is None:
        return []
    share, held = estimate("error", sets.coverage.value, sets.coverage.low, sets.coverage.high)
    small = f"hold the label, 95% interval {held}; {sets.size:.2f} classes on average"
    return [Card(f"{level(sets.asked)} prediction sets", share, small)]


def _pictures(record: TrainingRecord) -> list[Picture]:
    curves = {key: curve(reliability) for key, reliability in record.reliability.items()}
    metrics, reliability = record.metrics[record.applied], record.reliability[record.applied]
    accuracy = 1 - metrics["error"].value
    return [
        reliability_picture("Reliability", curves, ece=False),  # the page's ECE has other bins
        confidence_picture("Confidence", reliability.histogram, accuracy + metrics["confidence_gap"].value, accuracy),
        training_picture("Training", [record.history], record.epochs),
        *([rate_picture(record.rate_test)] if record.rate_test else []),
    ]
