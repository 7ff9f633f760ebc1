"""The metrics of a trained run on its test part, as trained and calibrated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from labelsmooth.calibrate import Calibrator
from labelsmooth.calibrate.catalogue import title_of
from labelsmooth.data import Dataset, Split
from labelsmooth.errors import UserError
from labelsmooth.metrics import class_counts, reliability_curve, summary, verdict
from labelsmooth.metrics.binomial import clopper_pearson
from labelsmooth.metrics.verdict import guess_error
from labelsmooth.models.held_out import HeldOut
from labelsmooth.models.preprocess import thumbnail
from labelsmooth.models.records import CalibratorRecord, Measured, MeasuredSets, Mistake, TrainingData, TrainingRecord
from labelsmooth.training.spec import RateTest

if TYPE_CHECKING:
    from labelsmooth.training.fit import Trained

MISTAKES = 12
SETS, UNLIKE = 0.9, 0.01  # the coverage that is measured, and the share of usual images that are marked


def measure(
    done: Trained,
    data: Dataset,
    split: Split,
    calibrator: Calibrator | None,
    held_out: HeldOut | None,
    *,
    calibrator_reason: str,
    about: TrainingData,
    recipe: dict[str, Any],
    versions: dict[str, str],
    command: str,
    rate_test: RateTest | None = None,
) -> TrainingRecord:
    """The record of a training: every metric of the test part, the confusion matrix, the most confident mistakes."""
    logits, labels = done.logits["test"].astype(np.float64), data.labels[split.test]
    probabilities = {"as trained": torch.softmax(torch.from_numpy(logits), 1).numpy()}
    if calibrator is not None:
        probabilities["calibrated"] = calibrator.predict_proba(logits)
    applied = list(probabilities)[-1]
    summaries = {key: summary(values, labels) for key, values in probabilities.items()}
    predicted = probabilities[applied].argmax(1)
    confusion = np.zeros((len(data.classes), len(data.classes)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    return TrainingRecord(
        classes=list(data.classes),
        data=about,
        recipe=recipe,
        sentence=verdict(summaries[applied], guess_error=guess_error(np.bincount(labels))).sentence,
        metrics={
            key: {name: Measured(e.value, e.low, e.high) for name, e in metrics.items()}
            for key, metrics in summaries.items()
        },
        calibrator=CalibratorRecord(
            "" if calibrator is None else title_of(calibrator), calibrator_reason, calibrator is not None
        ),
        reliability={
            key: reliability_curve(values, labels, binning="equal-width").plain()
            for key, values in probabilities.items()
        },
        confusion=confusion.tolist(),
        class_counts=class_counts(probabilities[applied], labels),
        mistakes=_mistakes(probabilities[applied], labels, data, split),
        history=done.history,
        seconds=done.seconds,
        epochs=done.epochs,
        versions=versions,
        command=command,
        sets=_sets(held_out, probabilities[applied], labels, done.features.get("test")),
        suspects=[_mistake(data, split.train, s.row, s.guess, s.probability) for s in done.suspects[:MISTAKES]],
        suspected=len(done.suspects),
        rate_test=rate_test,
    )


def _sets(
    held_out: HeldOut | None,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    features: torch.Tensor | None,
) -> MeasuredSets | None:
    """How prediction sets do on the test part; None where there are too few validation images."""
    if held_out is None:
        return None
    try:
        sets = held_out.sets(SETS)
    except UserError:
        return None
    summary = sets.summary(probabilities=probabilities, labels=labels)
    low, high = clopper_pearson(round(summary.coverage * len(labels)), len(labels), 0.95)
    typicality = None if features is None else held_out.typicality(features)
    unlike = (
        None if typicality is None else float(np.mean([held_out.is_unlike(t, UNLIKE) for t in typicality.tolist()]))
    )
    return MeasuredSets(SETS, Measured(summary.coverage, low, high), summary.size, unlike)


def _mistakes(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], data: Dataset, split: Split
) -> list[Mistake]:
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    return [_mistake(data, split.test, i, predicted[i], confidence[i]) for i in worst]


def _mistake(data: Dataset, members: NDArray[np.int64], row: int, predicted: int, confidence: float) -> Mistake:
    member = int(members[row])
    label, guess = data.classes[data.labels[member]], data.classes[predicted]
    return Mistake(data.files[member], label, guess, float(confidence), thumbnail(data.images[member]))
