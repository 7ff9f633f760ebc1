"""A model measured on other data, and calibrated on it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from labelsmooth.calibrate import CATALOGUE, Calibrator, Name, best, check_name
from labelsmooth.errors import UserError
from labelsmooth.metrics import Interval
from labelsmooth.models.folder import load, set_calibrator
from labelsmooth.models.model import Model
from labelsmooth.models.on_data import OnData, Part, Progress, run_on

if TYPE_CHECKING:
    from labelsmooth.predictions import Evaluation, Source

__all__ = ["calibrate", "evaluate"]

CHUNK = 16_384


def evaluate(
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    part: Part | str = "auto",
    data_dir: Path | None = None,
    by: str | None = None,
    compare: str | os.PathLike[str] | None = None,
    interval: Interval | None = None,
    curves: bool = False,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model on labelled images, as :func:`labelsmooth.predictions.evaluate` measures a file of predictions.

    Args:
        folder: the model's.
        data: what 'labelsmooth train' takes: a name, a folder of class folders, or an .npz file.
        part: "auto" is the official test part; of the data that the model was trained on, the test part of that
            split; else all.  Or "train", "validation", "test", "all".
        data_dir: where torchvision's data sets lie.
        by: "class" for the metrics of each class too.
        compare: the folder of another model with the same classes, for paired differences.
        interval: level and resamples of the intervals.
        curves: whether to add the curves that a report draws.
        skip_corrupt: leave out files that cannot be used.
        progress: called with (what is being done, how many are, of how many).

    Raises:
        UserError: the model or the data cannot be used.
    """
    from labelsmooth.predictions.evaluate import measure

    if by not in (None, "class"):
        raise UserError(f"A model's predictions can be grouped by class only, not by {by!r}.")
    model = load(folder)
    other = None if compare is None else _same_classes(load(compare), model, Path(compare))
    found = run_on(model, data, part, data_dir, progress, skip_corrupt=skip_corrupt)
    source = _source(folder, model, found, by)
    if other is None or compare is None:
        return measure(source, interval=interval, curves=curves)
    second = run_on(other, data, part, data_dir, progress, skip_corrupt=skip_corrupt)
    if not np.array_equal(found.members, second.members):
        raise UserError(
            f"{folder} and {compare} were trained on different parts of {data}, so that their test parts are not the "
            "same images. Say --part all, or another part, only if neither was trained on it."
        )
    return measure(source, _source(compare, other, second, None), interval=interval, curves=curves)


def calibrate(
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    method: Name | Literal["best"] = "temperature",
    part: Part | str = "auto",
    data_dir: Path | None = None,
    skip_corrupt: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> str:
    """Fit a model's calibrator on labelled images and have it applied from now on.

    Args:
        folder: the model's; its ``calibrator.json`` is replaced, and ``config.json`` says what it was fitted on.
        data: what 'labelsmooth train' takes; not the images that the model was trained on, of which it is too sure.
        method: a name from :data:`labelsmooth.calibrate.CATALOGUE`, or "best".
        part: "auto" is the validation part of the data that the model was trained on; of other data all but an
            official test part.
        data_dir: where torchvision's data sets lie.
        skip_corrupt: leave out files that cannot be used.
        progress: called with (what is being done, how many are, of how many).
        command: the command to repeat it with, for the record.

    Returns:
        What was fitted, in a sentence.

    Raises:
        UserError: the model or the data cannot be used, or there is no such method.
    """
    if method != "best":
        check_name(method)
    # A damaged calibrator is one reason to fit another, so it is not read.
    model = load(folder, calibrated=False)
    found = run_on(model, data, part, data_dir, progress, skip_corrupt=skip_corrupt, purpose="calibrate")
    if found.trained_on:
        raise UserError(
            f"The model was trained on {found.name}, and is too sure of images that it has seen: a calibrator fitted "
            "there does harm. Leave --part out, or give other data."
        )
    calibrator, remarks = _fit(method, found)
    about = {
        "method": method,
        "data": found.name,
        "fingerprint": found.fingerprint,
        "rows": len(found.labels),
        "command": command,
    }
    set_calibrator(Path(folder), calibrator, about)
    temperature = getattr(calibrator, "temperature_", None)
    number = "" if temperature is None else f", T = {temperature:.4g}"
    said = f"{type(calibrator).__name__}{number}, fitted on {len(found.labels)} images of {found.name}, is applied now."
    return " ".join([said, *remarks, *found.remarks])


def _fit(method: Name | Literal["best"], found: OnData) -> tuple[Calibrator, list[str]]:
    logits = found.logits.astype(np.float64)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            if method == "best":
                choice = best(logits, found.labels)
                calibrator, remarks = choice.calibrator, [choice.reason]
            else:
                calibrator, remarks = CATALOGUE[method].make().fit(logits, found.labels), []
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"{method} could not be fitted on {found.name}: {error}") from error
    return calibrator, remarks + [str(one.message) for one in caught]


def _same_classes(other: Model, model: Model, folder: Path) -> Model:
    """Another model with the same classes in the same order, as paired differences need."""
    if other.classes != model.classes:
        differ = sorted(set(other.classes) ^ set(model.classes))
        how = f"in one only: {', '.join(differ[:5])}" if differ else "in another order"
        raise UserError(f"{folder} has other classes than the model ({how}), so that they cannot be compared.")
    return other


def _fitted_here(model: Model, found: OnData) -> list[str]:
    """A word of warning where a calibrator is measured on what it was fitted on."""
    fitted = model.config.get("calibrated") or {}
    same = (fitted.get("fingerprint"), fitted.get("data")) == (found.fingerprint, found.name)
    if model.calibrator is None or not same:
        return []
    return ["The calibrator was fitted on these images, so their calibration looks better than it is elsewhere."]


def _source(folder: str | os.PathLike[str], model: Model, found: OnData, by: str | None) -> Source:
    """The predictions as what a file of them would give."""
    from labelsmooth.predictions import Chunk, Source

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(found.labels), CHUNK):
            rows = slice(start, start + CHUNK)
            labels = found.labels[rows]
            groups = None if by is None else np.array(model.classes)[labels]
            yield Chunk(model.calibrated(torch.from_numpy(found.logits[rows])).numpy(), labels, groups)

    seen = ", some of which it was trained on" if found.trained_on else ""
    return Source(
        f"{os.fspath(folder)} on {found.name}{seen}",
        "probabilities",
        chunks(),
        (*_fitted_here(model, found), *found.remarks),
    )
