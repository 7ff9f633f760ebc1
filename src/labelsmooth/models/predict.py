"""Predictions of image files, in order and in constant memory; a file that cannot be read is a prediction too."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import tempfile
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from labelsmooth.errors import UserError
from labelsmooth.models.model import Input, Model
from labelsmooth.models.paths import Place, find_images

__all__ = ["Prediction", "abstain_below", "keep_most_confident", "predict"]


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Args:
        path: the file.
        label: the most probable class; None where the model abstains, or the file cannot be read.
        confidence: the calibrated probability of the most probable class; None where the file cannot be read.
        top: the most probable classes with their probabilities, in falling order.
        abstained: whether the confidence was too low to give the label.
        error: why the file cannot be read; None where it was.
    """

    path: str
    label: str | None = None
    confidence: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    abstained: bool = False
    error: str | None = None


def predict(
    model: Model, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], top: int = 1, batch_size: int = 32
) -> Iterator[Prediction]:
    """Predict images one batch after the other, while the next are being decoded.

    Args:
        model: a loaded model.
        paths: files and folders, or one of them; taken as they come, so a generator may be endless.
        top: how many classes of each image to keep, at least 1; more than there are gives all.
        batch_size: images that the network sees at once.

    Yields:
        One :class:`Prediction` for each image, in order. Pillow may warn of odd metadata meanwhile;
        :meth:`Model.predict` keeps it quiet.

    Raises:
        UserError: `top` or `batch_size` is below 1.
    """
    for name, value in (("top", top), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name}={value} is too small; give at least 1.")
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    return _predict(model, find_images(several), min(top, len(model.classes)), batch_size)


def _predict(model: Model, places: Iterable[Place], top: int, batch_size: int) -> Iterator[Prediction]:
    batch: list[tuple[str, Tensor | str]] = []
    readable = 0
    for path, image in _decoded(places, model.input, ahead=2 * batch_size - 1):
        batch.append((path, image))
        readable += isinstance(image, Tensor)
        if readable == batch_size or len(batch) == 4 * batch_size:
            yield from _of_batch(model, batch, top)
            batch, readable = [], 0
    if batch:
        yield from _of_batch(model, batch, top)


def _of_batch(model: Model, batch: list[tuple[str, Tensor | str]], top: int) -> Iterator[Prediction]:
    images = [image for _, image in batch if isinstance(image, Tensor)]
    if images:
        values, classes = model.probabilities(torch.stack(images)).topk(top, dim=1)
        rows = iter(zip(values.tolist(), classes.tolist(), strict=True))
    for path, image in batch:
        if isinstance(image, str):
            yield Prediction(path, error=image)
        else:
            row = tuple((model.classes[k], p) for p, k in zip(*next(rows), strict=True))
            yield Prediction(path, *row[0], row)


def _decoded(places: Iterable[Place], spec: Input, ahead: int) -> Iterator[tuple[str, Tensor | str]]:
    """Each file's image, or why there is none, in order; at most ``ahead`` are decoded before they are asked for."""
    import labelsmooth.models.preprocess  # noqa: F401  (imports torchvision, once, and not in several threads)

    waiting: deque[tuple[str, Future[Tensor | str]]] = deque()
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        for place in places:
            waiting.append((str(place.path), pool.submit(_read, place, spec)))
            if len(waiting) >= ahead:
                path, image = waiting.popleft()
                yield path, image.result()
        while waiting:
            path, image = waiting.popleft()
            yield path, image.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(place: Place, spec: Input) -> Tensor | str:
    """The network's input, or a few words on why the file has none."""
    from labelsmooth.data.photos import BadPhoto
    from labelsmooth.models.preprocess import preprocess_file

    if place.problem:
        return place.problem
    try:
        if not stat.S_ISREG(os.stat(place.path).st_mode):
            return "not a file"
        return preprocess_file(place.path, spec)
    except BadPhoto as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)


def abstain_below(predictions: Iterable[Prediction], confidence: float) -> Iterator[Prediction]:
    """Withhold the label wherever the confidence is below a number from 0 to 1.

    Example:
        >>> sure, unsure = Prediction("a.jpg", "cat", 0.9), Prediction("b.jpg", "dog", 0.4)
        >>> [prediction.label for prediction in abstain_below([sure, unsure], 0.5)]
        ['cat', None]
    """
    if not 0 <= confidence <= 1:
        raise UserError(f"abstain-below {confidence} must lie in [0, 1]: it is the least confidence that is answered.")
    return (_abstain(one) if one.confidence is not None and one.confidence < confidence else one for one in predictions)


def keep_most_confident(predictions: Iterable[Prediction], coverage: float) -> Iterator[Prediction]:
    """Withhold the labels of all but the most confident share of the images; ties are kept in order.

    The share is of the images that can be read, rounded to the nearest whole number.  Since the last image may be the
    surest, every prediction is read before the first is given: they wait in a temporary file, the confidences (8
    bytes each) in memory.

    Args:
        predictions: all of them.
        coverage: the share that keeps its label, in (0, 1].

    Example:
        >>> three = [Prediction(f"{k}.jpg", "cat", confidence) for k, confidence in enumerate((0.5, 0.9, 0.7))]
        >>> [prediction.label for prediction in keep_most_confident(three, 2 / 3)]
        [None, 'cat', 'cat']

    Source: Geifman and El-Yaniv (2017), selective classification.
    """
    if not 0 < coverage <= 1:
        raise UserError(f"coverage {coverage} must lie in (0, 1]: it is the share of the images that is answered.")
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
            one = Prediction(**{**fields, "top": tuple((name, p) for name, p in fields["top"])})
            if one.confidence is not None:
                one = one if kept[number] else _abstain(one)
                number += 1
            yield one


def _abstain(one: Prediction) -> Prediction:
    return dataclasses.replace(one, label=None, abstained=True)
