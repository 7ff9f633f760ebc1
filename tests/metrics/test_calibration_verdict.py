"""The verdict: what it says of known models, and that it says nothing of too few rows."""

import numpy as np
import pytest

from labelsmooth import metrics
from labelsmooth.metrics import Estimate


def estimates(gap, ece, examples=500, error=0.1):
    def made(value, low, high):
        return Estimate(value, low, high, 0.95, "made up", examples)

    return {"error": made(error, 0.0, 1.0), "confidence_gap": made(*gap), "ece": made(*ece)}


@pytest.mark.parametrize(
    ("gap", "ece", "examples", "status"),
    [
        ((0.03, 0.01, 0.05), (0.03, 0.01, 0.05), 500, "over-confident"),
        ((-0.03, -0.05, -0.01), (0.03, 0.01, 0.05), 500, "under-confident"),
        ((0.0, -0.01, 0.01), (0.03, 0.01, 0.05), 500, "miscalibrated"),
        ((0.0, -0.02, 0.02), (0.02, 0.0, 0.04), 500, "calibrated"),
        ((0.0, -0.48, 0.52), (0.2, 0.0, 0.6), 500, "too few rows"),
        ((0.03, 0.01, 0.05), (0.03, 0.01, 0.05), 19, "too few rows"),
    ],
)
def test_each_status(gap, ece, examples, status):
    judged = metrics.verdict(estimates(gap, ece, examples))
    assert judged.status == status
    assert judged.sentence.lower().startswith("no sign" if status == "calibrated" else status)


@pytest.mark.parametrize("rows", [50, 200])
def test_a_calibrated_model_that_is_nearly_always_right_is_not_called_wrong(rows):
    """Without an error in the sample, resamples would know the accuracy to be 1: 63% of samples of 50 were called."""
    wrong = 0
    for seed in range(40):
        rng = np.random.default_rng([seed, rows])
        p = rng.uniform(0.98, 1.0, rows)
        y = (rng.random(rows) < p).astype(int)
        summary = {
            "error": metrics.error(p, y, interval=0.95),
            "confidence_gap": metrics.confidence_gap(p, y, interval=0.95),
            "ece": metrics.ece(p, y, interval=metrics.Interval(resamples=200, seed=seed)),
        }
        wrong += metrics.verdict(summary).status not in ("calibrated", "too few rows")
    assert wrong <= 5  # 7.5% of 40 is 3


@pytest.mark.parametrize(
    ("guess_error", "is_guessing"), [(None, False), (0.6, False), (0.5, True), (0.2, True), (0.0, False)]
)
def test_a_model_that_may_only_guess_is_said_to(guess_error, is_guessing):
    made = estimates((0.0, -0.02, 0.02), (0.02, 0.0, 0.04)) | {"error": Estimate(0.4, 0.3, 0.5, 0.95, "made up", 500)}
    judged = metrics.verdict(made, guess_error=guess_error)
    assert judged.status == "calibrated", "to guess with the confidence of a guess is calibrated"
    assert judged.guessing == is_guessing
    assert judged.sentence.startswith("Not significantly better than guessing: the error is 40.0%") == is_guessing


def test_few_errors_need_a_narrow_interval():
    for end, status in ((0.009, "calibrated"), (0.02, "too few rows")):
        assert metrics.verdict(estimates((0.0, -0.005, end), (0.01, 0.0, 0.02), error=0.004)).status == status


def test_two_rows_get_no_verdict():
    assert metrics.verdict(metrics.summary(np.array([0.9, 0.8]), np.array([0, 0]))).status == "too few rows"
    one = metrics.verdict(metrics.summary(np.array([0.9]), np.array([1])))
    assert one.sentence.startswith("Too few rows to tell: with 1 example, mean confidence")
