"""A model evaluated on other data, and calibrated on it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from labelsmooth.calibrate import CANDIDATES, CATALOGUE, Calibrator, Name, best, check_name
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.metrics import Interval
from labelsmooth.models.folder import load, set_calibrator
from labelsmooth.models.held_out import HELD_OUT, HeldOut, load_held_out
from labelsmooth.models.model import Model
from labelsmooth.models.on_data import OnData, Part, run_on
from labelsmooth.progress import Progress

if TYPE_CHECKING:
    from labelsmooth.predictions import Evaluation, SetOptions, Source

CHUNK = 16_384


def evaluate(
    folder: StrPath,
    data: StrPath,
    *,
    part: Part = "auto",
    data_dir: StrPath | None = None,
    by: str | None = None,
    compare: StrPath | None = None,
    interval: Interval | None = None,
    curves: bool = False,
    of_class: str | None = None,
    sets: SetOptions | None = None,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a model on labelled images, as :func:`labelsmooth.predictions.evaluate` does a file of predictions.

    Args:
        folder: of the model.
        data: a name, a folder of class folders, or an .npz file, as for :func:`labelsmooth.data.load_dataset`.
        part: "auto" is the official test part; of the data that the model was trained on, the test part of that
            split; else all.  Or "train", "validation", "test", "all".
        data_dir: the folder of torchvision's data sets.
        by: "class" for the metrics of each class as well.
        compare: the folder of another model with the same classes, for paired differences.
        interval: level and resamples of the intervals.
        curves: whether to add the curves that a report draws.
        of_class: a class (its name, or its index) whose probability is measured against whether the label is it.
        sets: prediction sets to evaluate as well.
        skip_corrupt: leave out files that cannot be used.
        progress: ``photos`` and ``predictions`` are called.

    Raises:
        UserError: the model or the data cannot be used.
    """
    from labelsmooth.predictions.evaluate import measure

    if by not in (None, "class"):
        raise UserError(f"A model's predictions can be grouped by class only, not by {by!r}: give by='class'.")
    model = load(folder)
    other = None if compare is None else _same_classes(load(compare), model, Path(compare))
    run = partial(run_on, data=data, part=part, data_dir=data_dir, progress=progress, skip_corrupt=skip_corrupt)
    first = run(model)
    source = _source(folder, model, first, by)
    if other is None or compare is None:
        return measure(source, interval=interval, curves=curves, of_class=of_class, sets=sets)
    second = run(other)
    if not np.array_equal(first.members, second.members):
        raise UserError(
            f"{folder} and {compare} were trained on different parts of {data}, so their test parts are not the same "
            "images. Give --part all, or another part, only if neither was trained on it."
        )
    compared = _source(compare, other, second, None)
    return measure(source, compared, interval=interval, curves=curves, of_class=of_class, sets=sets)


def calibrate(
    folder: StrPath,
    data: StrPath,
    *,
    method: Name | Literal["best"] = "best",
    part: Part = "auto",
    data_dir: StrPath | None = None,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
    command: str = "",
    on_held_out: Callable[[Evaluation], None] | None = None,
) -> str:
    """Fit a model's calibrator on labelled images; the model applies it from now on.

    Args:
        folder: of the model; its ``calibrator.json`` is replaced, and ``config.json`` records the data of the fit;
            :func:`undo_calibration` restores the replaced one.  Prediction sets follow from the same images.
        data: as for :func:`evaluate`, but not the images that the model was trained on, where it is over-confident.
        method: "best", as :func:`labelsmooth.calibrate.best` chooses, or a name from
            :data:`labelsmooth.calibrate.CATALOGUE`.  The model is unchanged where the images have too few errors or
            rows to determine it.
        part: "auto" is the validation part of the data that the model was trained on; of other data all but an
            official test part.
        data_dir: the folder of torchvision's data sets.
        skip_corrupt: leave out files that cannot be used.
        progress: ``photos`` and ``predictions`` are called.
        command: the command to repeat it with, for the record.
        on_held_out: called with what the calibrator does to images that it was not fitted on (cross-validation), with
            the curves that a report draws; not where the model is unchanged.

    Returns:
        A sentence that says what was fitted.

    Raises:
        UserError: the model or the data cannot be used, or there is no such method.
    """
    if method != "best":
        check_name(method)
    # Without the old calibrator, which may be damaged.
    model = load(folder, calibrated=False)
    fitted_on = run_on(
        model, data, part, data_dir=data_dir, progress=progress, skip_corrupt=skip_corrupt, purpose="calibrate"
    )
    if fitted_on.trained_on:
        raise UserError(
            f"The model was trained on {fitted_on.name}, where it is over-confident: a calibrator fitted there makes "
            "other predictions worse. Leave out --part, or give other data."
        )
    calibrator, remarks = _fit(method, fitted_on)
    if calibrator is None:
        return " ".join(["The model is unchanged.", *remarks, *fitted_on.remarks])
    about = {
        "method": method,
        "data": fitted_on.name,
        "fingerprint": fitted_on.fingerprint,
        "rows": len(fitted_on.labels),
        "command": command,
    }
    if on_held_out is not None:
        from labelsmooth.predictions import calibration

        on_held_out(calibration.held_out(calibrator, _source(folder, model, fitted_on, None)))
    held_out = HeldOut.of(fitted_on.logits, fitted_on.labels, fitted_on.features, calibrator)
    with contextlib.suppress(UserError):  # a damaged file is replaced
        before = load_held_out(Path(folder) / HELD_OUT, len(model.classes))
        if before is not None and before.means is not None:  # of images like the training's
            held_out = dataclasses.replace(held_out, means=before.means, distances=before.distances)
    set_calibrator(Path(folder), calibrator, held_out, about)
    first = f"{calibrator!r}, fitted on {len(fitted_on.labels):,} images of {fitted_on.name}, is applied now."
    return " ".join([first, *remarks, *fitted_on.remarks])


def _fit(method: Name | Literal["best"], data: OnData) -> tuple[Calibrator | None, list[str]]:
    """The calibrator, or None where the images do not determine one, and remarks."""
    logits = data.logits.astype(np.float64)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            candidates = CANDIDATES if method == "best" or method == "identity" else [method]
            choice = best(logits, data.labels, candidates)
            if method in choice.left_out or (method == "best" and len(choice.nll) == 1):
                return None, [choice.reason]
            calibrator = choice.calibrator if method == "best" else CATALOGUE[method].make().fit(logits, data.labels)
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"{method} could not be fitted on {data.name}: {error}") from error
    return calibrator, [choice.reason, *dict.fromkeys(str(warning.message) for warning in caught)]


def _same_classes(other: Model, model: Model, folder: Path) -> Model:
    """The other model; a UserError unless it has the same classes in the same order."""
    if other.classes != model.classes:
        only_one = sorted(set(other.classes) ^ set(model.classes))
        difference = f"in one only: {', '.join(only_one[:5])}" if only_one else "in another order"
        raise UserError(f"{folder} has other classes than the model ({difference}), so they cannot be compared.")
    return other


def _fitted_here(model: Model, data: OnData) -> list[str]:
    """A warning where a calibrator is measured on the images that it was fitted on."""
    fitted = model.config.get("calibrated") or {}
    same = (fitted.get("fingerprint"), fitted.get("data")) == (data.fingerprint, data.name)
    if model.calibrator is None or not same:
        return []
    return ["The calibrator was fitted on these images, so they look better calibrated than others are."]


def _source(folder: StrPath, model: Model, data: OnData, by: str | None) -> Source:
    """The predictions in the form that a file of them is read in."""
    from labelsmooth.predictions import Chunk, Source

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(data.labels), CHUNK):
            rows = slice(start, start + CHUNK)
            labels = data.labels[rows]
            groups = None if by is None else np.array(model.classes)[labels]
            yield Chunk(model.calibrated(torch.from_numpy(data.logits[rows])).numpy(), labels, groups)

    trained_on = ", some of which it was trained on" if data.trained_on else ""
    return Source(
        f"{os.fspath(folder)} on {data.name}{trained_on}",
        "probabilities",
        chunks(),
        (*_fitted_here(model, data), *data.remarks),
        tuple(model.classes),
    )
