"""Calibrators from and to files: fit on one file of predictions, apply to another."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labelsmooth.calibrate import CATALOGUE, Name, best, check_name, load, save
from labelsmooth.errors import UserError
from labelsmooth.files import check_output, disk_errors, whole_file

from .arrays import NpzWriter
from .read import Kind, chunks, everything


def fit_file(
    path: Path,
    out: Path,
    method: Name | Literal["best"] = "temperature",
    kind: Kind | None = None,
    *,
    labels_path: Path | None = None,
    overwrite: bool = False,
) -> str:
    """Fit a calibrator on a file of predictions and save it as JSON; returns what happened, in a sentence.

    Probabilities are calibrated as the logits ln p, whose softmax they are. All rows are held at once, N x K numbers:
    most methods need them so, and a part of a long file is as good.

    Raises:
        UserError: a sentence with the file and the row; also where `out` exists and `overwrite` is false.
    """
    if method != "best":
        check_name(method)
    check_output(out, overwrite)
    found, scores, labels = everything(path, kind, labels_path=labels_path)
    assert labels is not None
    warned: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            if method == "best":
                choice = best(_logits(path, found, scores, 0), labels)
                fitted, said = choice.calibrator, choice.reason
            else:
                fitted, said = CATALOGUE[method].make().fit(_logits(path, found, scores, 0), labels), ""
            warned = [str(w.message) for w in caught]
    except (ValueError, TypeError, ImportError) as problem:
        raise UserError(f"{path}: {problem}") from problem
    with disk_errors(out):
        save(fitted, out, overwrite=overwrite)
    name = type(fitted).__name__
    temperature = getattr(fitted, "temperature_", None)
    number = "" if temperature is None else f", T = {temperature:.4g}"
    return " ".join([f"{name}{number}, fitted on {len(labels)} rows of {path}, saved in {out}.", said, *warned]).strip()


def apply_file(
    calibrator: Path,
    path: Path,
    out: Path,
    kind: Kind | None = None,
    *,
    labels_path: Path | None = None,
    overwrite: bool = False,
) -> str:
    """Calibrate a file of predictions; `out` is an .npz with ``probabilities``, and ``labels`` where there were any.

    Read, calibrated and written chunk by chunk, in memory that does not grow with the file.

    Raises:
        UserError: a sentence with the file and the row; also where `out` exists and `overwrite` is false.
    """
    if out.suffix.lower() != ".npz":
        raise UserError(f"{out} must end in .npz: that is what is written.")
    check_output(out, overwrite)
    try:
        fitted = load(calibrator)
    except (ValueError, OSError) as problem:
        raise UserError(str(problem)) from problem
    found, pieces = chunks(path, kind, labels_path=labels_path, labels=False)
    with disk_errors(out), whole_file(out) as file, NpzWriter(file, out.parent, ("probabilities", "labels")) as archive:
        rows = 0
        for scores, labels, _ in pieces:
            try:
                archive.add("probabilities", fitted.predict_proba(_logits(path, found, scores, rows)))
            except (ValueError, TypeError) as problem:
                raise UserError(f"{path}: {problem}") from problem
            if labels is not None:
                archive.add("labels", labels)
            rows += len(scores)
        if not rows:
            raise UserError(f"{path} has no rows.")
    return f"{type(fitted).__name__} applied to {rows} rows of {path}, saved in {out}."


def _logits(path: Path, kind: str, scores: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
    """The scores as logits; `first` is the number of the first row."""
    if kind == "logits":
        top = scores if scores.ndim == 1 else scores.max(axis=1)
        if not np.isfinite(top).all():  # NaN and inf carry through the maximum
            i = int(np.flatnonzero(~np.isfinite(top))[0])
            raise UserError(f"{path}: row {first + i} has the largest logit {top[i]}; NaN and inf are not logits.")
        return scores
    bad = ~((scores >= 0) & (scores <= 1.0 + 1e-3))
    if scores.ndim == 2:
        bad |= np.abs(scores.sum(axis=1, dtype=np.float64) - 1.0)[:, None] > 1e-3
    if bad.any():
        i = int(np.argwhere(bad)[0][0])
        raise UserError(f"{path}: row {first + i} is not a row of probabilities. If these are logits, say --logits.")
    wide = scores.astype(np.float64)
    with np.errstate(divide="ignore"):
        if scores.ndim == 1:  # the log-odds of "yes"; certainty is as large as float64 can tell it
            wide = np.clip(wide, 1e-300, 1.0 - 1e-16)
            return np.asarray(np.log(wide) - np.log1p(-wide))
        return np.asarray(np.log(wide))
