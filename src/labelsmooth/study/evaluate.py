"""From the logits of a run to its metrics: calibrated on validation, measured example by example on test."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelsmooth.calibrate import CATALOGUE, check_name
from labelsmooth.data.split import stopping_half
from labelsmooth.metrics import influence
from labelsmooth.metrics.numbers import joined
from labelsmooth.study.ece import calibration_error, ece_interval
from labelsmooth.study.records import TEST_METRICS
from labelsmooth.training.spec import Settings

Floats = NDArray[np.float64]

# An isotonic fit may give a label the probability 0, whose NLL is infinite.  As scikit-learn's log_loss does, the
# study reads every probability below float64's epsilon as that: 36 nats.
FLOOR = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Evaluation:
    """One run under one calibrator.

    ``values[metric]`` holds a value for each test example; their mean is the metric, and their spread its sampling
    error (see :func:`labelsmooth.metrics.influence`).  The mean of the ECE's values is the debiased ECE.
    """

    values: dict[str, Floats]
    probabilities: Floats  # [N, K] of the test part
    floor: float  # the ECE that a perfectly calibrated model with these confidences would show
    ece_interval: tuple[float, float]


def evaluate(
    logits: dict[str, NDArray[np.float32]],
    labels: dict[str, NDArray[np.int64]],
    calibrators: Sequence[str],
    settings: Settings | None = None,
) -> dict[str, Evaluation]:
    """Evaluate one run.

    Args:
        logits: [N, K] of the parts "train", "validation" and "test".
        labels: [N] of the same parts.
        calibrators: "none", or names of calibrators; each is fitted on the validation part alone.
        settings: of the run, by default the baseline's.  Under early stopping calibrators are fitted on the half of the
            validation part that did not choose the epoch.
    """
    results = {}
    rows = calibration_rows(labels["validation"], settings or Settings())
    for name in calibrators:
        if name == "none":
            probabilities = _softmax(logits["test"])
        else:
            with warnings.catch_warnings():
                # A separable validation part has no best temperature; the bounded answer is measured like any other.
                warnings.simplefilter("ignore")
                calibrator = (
                    CATALOGUE[check_name(name)]
                    .make()
                    .fit(logits["validation"][rows].astype(np.float64), labels["validation"][rows])
                )
            probabilities = calibrator.predict_proba(logits["test"].astype(np.float64))
        values, floor = test_values(probabilities, labels["test"])
        if name == "none":
            values |= _fit_values(logits, labels, values["nll"])
        results[name] = Evaluation(values, probabilities, floor, ece_interval(probabilities, labels["test"]))
    return results


def calibration_rows(labels: NDArray[np.int64], settings: Settings) -> NDArray[np.bool_]:
    """Which validation examples may fit a calibrator, [n]: those that have not chosen the epoch of early stopping."""
    return ~stopping_half(labels) if settings.patience else np.ones(len(labels), bool)


def usable(
    calibrators: Sequence[str],
    labels: Sequence[dict[str, NDArray[np.int64]]],
    settings: Collection[Settings],
    num_classes: int,
) -> tuple[tuple[str, ...], list[str]]:
    """The calibrators for which every run has validation examples enough, and why the others are left out."""
    kept: list[str] = []
    left_out: dict[str, list[str]] = {}  # by the reason
    for name in calibrators:
        problems = (
            CATALOGUE[check_name(name)]
            .make()
            .too_few_rows(parts["validation"][calibration_rows(parts["validation"], setting)], num_classes)
            for parts in labels
            for setting in settings
            if name != "none"
        )
        problem = next((problem for problem in problems if problem), None)
        if problem is None:
            kept.append(name)
        else:
            left_out.setdefault(problem, []).append(name)
    return tuple(kept), [f"Calibrators left out: {joined(names)}; {problem}." for problem, names in left_out.items()]


def test_values(probabilities: Floats, labels: NDArray[np.int64]) -> tuple[dict[str, Floats], float]:
    """A value of each metric for each test example, [N], and the floor of the ECE."""
    floored = np.maximum(probabilities, FLOOR)
    values: dict[str, Floats] = {
        name: influence(name, floored if name == "nll" else probabilities, labels) for name in TEST_METRICS
    }
    error = calibration_error(probabilities, labels)
    values["ece"] = values["ece"] + (error.debiased - error.plug_in)
    return values, error.floor


def _fit_values(logits: dict[str, Any], labels: dict[str, Any], test_nll: Floats) -> dict[str, Floats]:
    """How far the run fits: its NLL on training examples against test examples, and the size of its logits."""
    train = np.maximum(_softmax(logits["train"]), FLOOR)[np.arange(len(labels["train"])), labels["train"]]
    test = logits["test"].astype(np.float64)
    largest = test.max(-1)
    others = (test.sum(-1) - largest) / (test.shape[1] - 1)
    return {
        "nll_gap": float(-np.log(train).mean()) - test_nll,
        "largest_logit": largest,
        "logit_gap": largest - others,
    }


def _softmax(logits: Any) -> Floats:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    exp = np.exp(shifted)
    return np.asarray(exp / exp.sum(-1, keepdims=True))


def largest_logits(values: dict[str, list[Floats]]) -> tuple[list[float], dict[str, list[int]]]:
    """Histograms over common edges of each method's largest logits, all seeds together."""
    pooled = {method: np.concatenate(arrays) for method, arrays in values.items()}
    everything = np.concatenate(list(pooled.values()))
    edges = np.linspace(everything.min(), everything.max() + 1e-9, 41)
    return edges.tolist(), {method: np.histogram(array, edges)[0].tolist() for method, array in pooled.items()}
