"""Prediction sets of a file of predictions: how often they hold the label, and how large they are."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labelsmooth.calibrate import PredictionSets
from labelsmooth.calibrate.inputs import random_parts
from labelsmooth.errors import UserError
from labelsmooth.files import StrPath
from labelsmooth.metrics import Estimate, Interval
from labelsmooth.metrics.interval import percentile_estimate, share_estimate
from labelsmooth.predictions.chunks import Source
from labelsmooth.predictions.read import logits_of, open_predictions, read_all


@dataclass(frozen=True)
class SetOptions:
    """Which prediction sets to evaluate.

    Args:
        coverage: promised share of sets that hold the label, in (0, 1).
        method: "lac", "aps" or "raps", as in :class:`labelsmooth.calibrate.PredictionSets`.
        calibration: a file of predictions (or opened ones) whose rows give the threshold; without it each fifth of the
            rows gets the threshold of the other four fifths.
    """

    coverage: float = 0.9
    method: Literal["lac", "aps", "raps"] = "lac"
    calibration: StrPath | Source | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.coverage < 1.0:
            raise UserError(f"sets must be the share of sets that hold the label, such as 0.9, not {self.coverage!r}.")


@dataclass(frozen=True)
class SetsEvaluation:
    """How prediction sets did: their coverage and size with intervals, and both for each class [K].

    `fitted_on` says which rows gave the threshold; `sizes` counts the sets of 0, 1, ..., K classes.
    """

    promised: float
    method: str
    fitted_on: str
    coverage: Estimate
    size: Estimate
    class_coverage: list[Estimate]
    class_size: list[float]
    sizes: list[int]


def evaluate_sets(source: Source, options: SetOptions, interval: Interval) -> SetsEvaluation:
    """Fit the sets on the rows that the options name, and measure them on the rows of the source."""
    scores, labels = _logits(source)
    inside = np.empty(scores.shape, dtype=bool)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        if options.calibration is not None:
            given = options.calibration
            held_out = given if isinstance(given, Source) else open_predictions(given)
            known, truth = _logits(held_out)
            if known.shape[1] != scores.shape[1]:
                raise UserError(
                    f"{held_out.name} has {known.shape[1]} classes and {source.name} {scores.shape[1]}: the rows of "
                    "prediction sets must be of the same model."
                )
            inside[:] = _sets(options).fit(known, truth).predict(scores)
            words = f"Their threshold comes from the {len(truth):,} rows of {held_out.name}."
        else:
            for held in random_parts(len(labels)):
                if held.any():
                    inside[held] = _sets(options).fit(scores[~held], labels[~held]).predict(scores[held])
            words = "The threshold for each fifth of the rows comes from the other four fifths (cross-validation)."
    words = " ".join([words, *dict.fromkeys(str(warning.message) for warning in caught[:1])])
    return _measured(inside, labels, options, words, interval)


def _sets(options: SetOptions) -> PredictionSets:
    return PredictionSets(1.0 - options.coverage, options.method)


def _logits(source: Source) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    scores, labels = read_all(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # probabilities of 0 do not matter here
        return logits_of(source, scores), labels


def _measured(
    inside: npt.NDArray[np.bool_],
    labels: npt.NDArray[np.int64],
    options: SetOptions,
    fitted_on: str,
    interval: Interval,
) -> SetsEvaluation:
    rows, classes = inside.shape
    covered, size = inside[np.arange(rows), labels], inside.sum(axis=1)

    def share(which: npt.NDArray[np.bool_]) -> Estimate:
        return share_estimate(int((covered & which).sum()), int(which.sum()), interval.level)

    sizes = np.bincount(size, minlength=classes + 1)
    drawn = np.random.default_rng(interval.seed).multinomial(rows, sizes / rows, interval.resamples)
    mean = percentile_estimate(float(size.mean()), [drawn @ np.arange(classes + 1) / rows], rows, interval)
    of_class = [labels == k for k in range(classes)]
    return SetsEvaluation(
        options.coverage,
        options.method,
        fitted_on,
        share(np.ones(rows, dtype=bool)),
        mean,
        [share(which) for which in of_class],
        [float(size[which].mean()) if which.any() else float("nan") for which in of_class],
        sizes.tolist(),
    )
