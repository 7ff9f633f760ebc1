"""The page of predictions: each photo with its label, confidence, set of classes, and marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labelsmooth.errors import plural
from labelsmooth.files import StrPath
from labelsmooth.metrics.numbers import level
from labelsmooth.models import Model, Prediction
from labelsmooth.models.preprocess import preprocess_file, thumbnail
from labelsmooth.report.page import render, write
from labelsmooth.report.tables import Card

MOST_PHOTOS = 500  # of a page: about 4 MB


def write_predictions(
    model: Model, predictions: Sequence[Prediction], path: StrPath, *, sets: float | None = None, command: str = ""
) -> None:
    """Write predictions as a page with the photos, the first 500 of them.

    Args:
        model: what predicted them; it prepares the pictures.
        predictions: of :meth:`labelsmooth.models.Model.predict`.
        path: the page.
        sets: the probability of the predictions' sets, where they have any.
        command: the command to repeat it with.

    Raises:
        UserError: the page cannot be written.
    """
    write(render_predictions(model, predictions, sets=sets, command=command), path)


def render_predictions(
    model: Model, predictions: Sequence[Prediction], *, sets: float | None = None, command: str = ""
) -> str:
    """The page as a string.  Names of files and classes are escaped."""
    read = [one for one in predictions if one.error is None]
    counts = {
        "Answered": (sum(one.label is not None for one in read), "with a label"),
        "Abstained": (sum(one.abstained for one in read), "confidence too low for a label"),
        "Unlike": (sum(one.unlike for one in read), "farther from the classes than nearly all held-out images"),
        "Not read": (len(predictions) - len(read), "files with an error"),
    }
    cards = [
        Card(title, f"{count:,}", small) for title, (count, small) in counts.items() if count or title == "Answered"
    ]
    if sets is not None and read:
        size = sum(len(one.classes or ()) for one in read) / len(read)
        cards.append(Card(f"{level(sets)} sets", f"{size:.2f}", f"classes on average, of {len(model.classes)}"))
    return render(
        "predictions.html.j2",
        title=f"Predictions of {plural(len(predictions), 'image')}",
        lead="Confidences are calibrated." if model.calibrator is not None else "No calibrator is applied.",
        tone="",
        command=command,
        cards=cards,
        photos=[(one, thumbnail(preprocess_file(Path(one.path), model.input))) for one in read[:MOST_PHOTOS]],
        more=max(0, len(read) - MOST_PHOTOS),
        errors=[one for one in predictions if one.error is not None][:MOST_PHOTOS],
        sets=None if sets is None else level(sets),
    )
