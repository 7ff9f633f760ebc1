"""The page of one trained model: how good, how calibrated, and which mistakes it is surest of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from labelsmooth._pages import render
from labelsmooth.files import write_text
from labelsmooth.metrics.catalogue import CATALOGUE
from labelsmooth.models.records import Measured, TrainingRecord
from labelsmooth.report import figures
from labelsmooth.report.numbers import value

__all__ = ["number", "render_training", "write_training"]

SHOWN = ("error", "nll", "brier", "ece", "confidence_gap", "aurc")
"""The metrics of the page, in order."""
WIDE = 60  # classes up to which the confusion matrix is drawn with names


def number(metric: str, measured: Measured) -> tuple[str, str]:
    """A metric and its interval as they are read."""
    sign = metric == "confidence_gap"
    low, high = (value(metric, end, sign=sign).rstrip("%") for end in (measured.low, measured.high))
    return value(metric, measured.value, sign=sign), f"{low} to {high}"


def render_training(record: TrainingRecord) -> str:
    """The page as a string.  Everything that came from outside, class and file names, is escaped."""
    before = record.reliability["as trained"]
    return render(
        "labelsmooth.report",
        "training.html.j2",
        record=record,
        shown={name: CATALOGUE[name] for name in SHOWN},
        rows={key: {m: number(m, metrics[m]) for m in SHOWN} for key, metrics in record.metrics.items()},
        reliability=Markup(figures.reliability("model", before, record.reliability.get("calibrated"))),
        training=Markup(figures.training_curve("model", [record.history], record.epochs)),
        confusion=Markup(_confusion(record)),
        confused=_confused(record),
        recipe=json.dumps(record.recipe, indent=1),
    )


def write_training(record: TrainingRecord, path: Path) -> None:
    """Write the page to a file, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    write_text(path, render_training(record))


def _confused(record: TrainingRecord) -> list[tuple[str, str, int]]:
    """The pairs of classes that are confused most: label, predicted, how often."""
    wrong = np.array(record.confusion) * (1 - np.eye(len(record.classes), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:8]
    pairs = [(int(place) // len(wrong), int(place) % len(wrong)) for place in order]
    return [(record.classes[i], record.classes[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]]


def _confusion(record: TrainingRecord) -> str:
    counts = np.array(record.confusion)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    classes = len(counts)
    side = min(11.0, 2.5 + 0.22 * classes)

    def draw(figure: Figure) -> str:
        axes = figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.argwhere(counts):
            if classes <= WIDE:
                colour = "white" if share[i, j] > 0.5 else "#333"
                axes.annotate(str(counts[i, j]), (j, i), ha="center", va="center", fontsize=6.5, color=colour)
        if classes <= WIDE:
            names = [name if len(name) <= 24 else f"{name[:23]}…" for name in record.classes]
            axes.set_xticks(range(classes), names, rotation=90, fontsize=7, parse_math=False)
            axes.set_yticks(range(classes), names, fontsize=7, parse_math=False)
        axes.set(xlabel="predicted", ylabel="label")
        return "Confusion matrix of the test part: a row for each label, a column for each predicted class"

    return figures.svg("confusion", (side, side), draw)
