"""Predictions of image files, in order and in constant memory; a file that cannot be read gives an error row."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import tempfile
import warnings
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from labelsmooth.calibrate import PredictionSets
from labelsmooth.data.loading import in_order
from labelsmooth.data.photos import BadPhoto
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.models.held_out import HeldOut
from labelsmooth.models.paths import Place, find_images, reason
from labelsmooth.models.preprocess import Input, preprocess_file


class Classifier(Protocol):
    """What prediction needs of a :class:`labelsmooth.models.Model`."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def input(self) -> Input: ...
    @property
    def held_out(self) -> HeldOut | None: ...
    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor | None]: ...
    def calibrated(self, logits: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    Args:
        path: the file.
        label: the most probable class; None if the model abstains or the file cannot be read.
        confidence: the calibrated probability of the most probable class; None if the file cannot be read.
        top: the most probable classes with their probabilities, in descending order.
        abstained: whether the label was withheld because of a low confidence.
        error: why the file cannot be read, or None.
        classes: the prediction set, the most probable first, if sets were asked for.
        typicality: the share of held-out images that are at least as far from the classes as this one, from
            :class:`labelsmooth.models.HeldOut`; None for a model that holds none.
        unlike: whether the typicality is so low that the image is unlike those that the model was trained on.
    """

    path: str
    label: str | None = None
    confidence: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    abstained: bool = False
    error: str | None = None
    classes: tuple[str, ...] | None = None
    typicality: float | None = None
    unlike: bool = False


def predict(
    model: Classifier,
    paths: StrPath | Iterable[StrPath],
    top: int = 1,
    batch_size: int = 32,
    *,
    sets: float | None = None,
    unlike: float = 0.01,
) -> Iterator[Prediction]:
    """Predict images in batches, while threads decode the next batch.

    Args:
        model: a loaded model.
        paths: files and folders, or one of them; read lazily, so a generator may be endless.
        top: the number of classes of each image, at least 1; at most all of them are given.
        batch_size: images that the network computes at once.
        sets: in (0, 1), give each image a set of classes that holds its label with this probability.
        unlike: in [0, 1], the share of images like the held-out ones that are marked as unlike; 0 marks none.  With
            fewer than 1 / unlike - 1 held-out images, those are marked that are farther than all of them.

    Yields:
        One :class:`Prediction` for each image, in order.  Pillow may warn of unusual metadata;
        :meth:`labelsmooth.models.Model.predict` silences it.

    Raises:
        UserError: `top` or `batch_size` is below 1, a share is outside its range, or the model holds no or too few
            held-out images for sets.
    """
    for name, value in (("top", top), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name}={value} is too small; give at least 1.")
    if not 0 <= unlike <= 1:
        raise UserError(f"unlike={unlike} must lie in [0, 1]: it is the share of usual images that are marked.")
    held_out = model.held_out
    if sets is not None and held_out is None:
        raise UserError(
            "sets needs labelled images that the model was not trained on, and this model has none stored; "
            "'labelsmooth calibrate MODEL DATA' stores them."
        )
    fitted = None if sets is None or held_out is None else held_out.sets(sets)
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    return _predict(model, find_images(several), _Options(min(top, len(model.classes)), batch_size, fitted, unlike))


@dataclass(frozen=True)
class _Options:
    top: int
    batch_size: int
    sets: PredictionSets | None
    unlike: float


def _predict(model: Classifier, places: Iterable[Place], options: _Options) -> Iterator[Prediction]:
    batch: list[tuple[str, Tensor | str]] = []
    readable, batch_size = 0, options.batch_size
    decoded = in_order(lambda place: (str(place.path), _read(place, model.input)), places, ahead=2 * batch_size - 1)
    for path, image in decoded:
        batch.append((path, image))
        readable += isinstance(image, Tensor)
        if readable == batch_size or len(batch) == 4 * batch_size:
            yield from _of_batch(model, batch, options)
            batch, readable = [], 0
    if batch:
        yield from _of_batch(model, batch, options)


def _of_batch(model: Classifier, batch: list[tuple[str, Tensor | str]], options: _Options) -> Iterator[Prediction]:
    images = [image for _, image in batch if isinstance(image, Tensor)]
    predictions = iter(_of_images(model, torch.stack(images), options) if images else ())
    for path, image in batch:
        if isinstance(image, str):
            yield Prediction(path, error=image)
        else:
            yield dataclasses.replace(next(predictions), path=path)


def _of_images(model: Classifier, images: Tensor, options: _Options) -> Iterator[Prediction]:
    logits, features = model.outputs(images)
    probabilities = model.calibrated(logits)
    order = probabilities.argsort(dim=1, descending=True, stable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of probabilities that are 0
        inside = None if options.sets is None else options.sets.predict(probabilities=probabilities.numpy())
    held_out = model.held_out
    typicality = None if held_out is None or features is None else held_out.typicality(features)
    for row, classes in enumerate(order.tolist()):
        top = tuple((model.classes[k], float(probabilities[row, k])) for k in classes[: options.top])
        typical = None if typicality is None else float(typicality[row])
        members = None if inside is None else tuple(model.classes[k] for k in classes if inside[row, k])
        unlike = held_out is not None and typical is not None and held_out.is_unlike(typical, options.unlike)
        yield Prediction("", *top[0], top, classes=members, typicality=typical, unlike=unlike)


def _read(place: Place, spec: Input) -> Tensor | str:
    """The network's input, or why the file cannot be read."""
    if place.problem:
        return place.problem
    try:
        if not stat.S_ISREG(os.stat(place.path).st_mode):
            return "not a file"
        return preprocess_file(place.path, spec)
    except BadPhoto as error:
        return error.reason
    except (OSError, ValueError) as error:
        return reason(error)


def abstain_below(predictions: Iterable[Prediction], confidence: float) -> Iterator[Prediction]:
    """Withhold the label where the confidence is below a threshold in [0, 1].

    Example:
        >>> sure, unsure = Prediction("a.jpg", "cat", 0.9), Prediction("b.jpg", "dog", 0.4)
        >>> [prediction.label for prediction in abstain_below([sure, unsure], 0.5)]
        ['cat', None]
    """
    if not 0 <= confidence <= 1:
        raise UserError(
            f"abstain-below {confidence} must lie in [0, 1]: it is the lowest confidence that gets a label."
        )
    return (_abstain(one) if one.confidence is not None and one.confidence < confidence else one for one in predictions)


def keep_most_confident(predictions: Iterable[Prediction], coverage: float) -> Iterator[Prediction]:
    """Withhold the labels of all but the most confident share of the images; of ties, the first are kept.

    The share is of the images that can be read, rounded to the nearest whole number.  Every prediction is read before
    the first is given, since the last image may have the highest confidence: the predictions are kept in a temporary
    file, the confidences (8 bytes each) in memory.

    Args:
        predictions: all predictions.
        coverage: the share that keeps its label, in (0, 1].

    Example:
        >>> three = [Prediction(f"{k}.jpg", "cat", confidence) for k, confidence in enumerate((0.5, 0.9, 0.7))]
        >>> [prediction.label for prediction in keep_most_confident(three, 2 / 3)]
        [None, 'cat', 'cat']

    Source: Geifman and El-Yaniv (2017), selective classification.
    """
    if not 0 < coverage <= 1:
        raise UserError(f"coverage {coverage} must lie in (0, 1]: it is the share of the images that get a label.")
    return _keep_most_confident(predictions, coverage)


def _keep_most_confident(predictions: Iterable[Prediction], coverage: float) -> Iterator[Prediction]:
    confidences = array("d")
    with tempfile.TemporaryFile("w+") as file:
        for one in predictions:
            if one.confidence is not None:
                confidences.append(one.confidence)
            file.write(json.dumps(dataclasses.asdict(one)) + "\n")
        order = np.argsort(-np.frombuffer(confidences), kind="stable") if confidences else np.empty(0, np.int64)
        kept = np.zeros(len(order), bool)
        kept[order[: round(coverage * len(order))]] = True
        file.seek(0)
        number = 0
        for line in file:
            fields = json.loads(line)
            fields["top"] = tuple((name, p) for name, p in fields["top"])
            fields["classes"] = None if fields["classes"] is None else tuple(fields["classes"])
            one = Prediction(**fields)
            if one.confidence is not None:
                one = one if kept[number] else _abstain(one)
                number += 1
            yield one


def _abstain(one: Prediction) -> Prediction:
    return dataclasses.replace(one, label=None, abstained=True)
