"""The ECE that a study reports: unbiased where the truth is known, and the floor of a perfect model."""

from __future__ import annotations

import numpy as np
import pytest

from labelsmooth import metrics
from labelsmooth.study.ece import calibration_error, ece_interval


def sample(rng, rows: int, gap: float, low: float = 0.5):
    """Two classes; the first is predicted, and right with its confidence minus the gap."""
    confidence = low + (0.98 - low) * rng.random(rows)
    right = rng.random(rows) < confidence - gap
    return np.stack([confidence, 1 - confidence], 1), np.where(right, 0, 1)


@pytest.mark.parametrize(("rows", "low"), [(200, 0.5), (200, 0.95), (2000, 0.5)])
def test_the_floor_is_what_perfect_models_show(rows: int, low: float) -> None:
    rng = np.random.default_rng(0)
    errors = [calibration_error(*sample(rng, rows, 0.0, low)) for _ in range(200)]
    assert np.mean([e.floor for e in errors]) == pytest.approx(np.mean([e.plug_in for e in errors]), rel=0.06)


@pytest.mark.parametrize("gap", [0.02, 0.05, 0.1])
def test_debiasing_removes_most_of_the_bias(gap: float) -> None:
    rng = np.random.default_rng(1)
    errors = [calibration_error(*sample(rng, 400, gap)) for _ in range(150)]
    plug_in, debiased = (np.mean([getattr(e, name) for e in errors]) for name in ("plug_in", "debiased"))
    assert abs(debiased - gap) < 0.45 * abs(plug_in - gap)


def test_gaps_of_both_signs_or_in_a_few_bins_only() -> None:
    rng = np.random.default_rng(4)
    confidence = np.repeat(np.linspace(0.5, 0.95, 15), 40)  # a level for each bin
    p = np.stack([confidence, 1 - confidence], 1)
    for gap in (0.1 * np.sign(confidence - 0.74), 0.2 * (confidence > 0.9)):
        errors = [
            calibration_error(p, np.where(rng.random(len(p)) < np.clip(confidence - gap, 0, 1), 0, 1))
            for _ in range(100)
        ]
        truth = np.abs(gap).mean()
        plug_in, debiased = (np.mean([getattr(e, name) for e in errors]) for name in ("plug_in", "debiased"))
        assert abs(debiased - truth) < 0.5 * abs(plug_in - truth) + 0.004


def test_a_perfect_model_has_about_none() -> None:
    rng = np.random.default_rng(2)
    errors = [calibration_error(*sample(rng, 400, 0.0)) for _ in range(200)]
    assert np.mean([e.debiased for e in errors]) < 0.4 * np.mean([e.plug_in for e in errors])
    assert 0.3 < np.mean([e.debiased == 0 for e in errors]) < 0.7


def test_the_plug_in_value_and_the_interval_are_those_of_metrics() -> None:
    p, y = sample(np.random.default_rng(3), 500, 0.1)
    expected = metrics.ece(p, y, interval=0.95)
    assert calibration_error(p, y).plug_in == pytest.approx(expected.value)
    assert ece_interval(p, y) == (expected.low, expected.high)
    assert expected.low <= calibration_error(p, y).debiased <= expected.high


def test_every_prediction_right_and_certain() -> None:
    p = np.tile([1.0, 0.0], (50, 1))
    error = calibration_error(p, np.zeros(50, int))
    assert (error.plug_in, error.debiased, error.floor) == (0.0, 0.0, 0.0)
