"""Tests of calibration: the statistics, and p-values that are uniform for calibrated models."""

import numpy as np
import pytest
from scipy.stats import norm as gaussian

from labelsmooth import metrics


def test_spiegelhalter_is_its_formula(sample):
    p, y = sample()
    c, a = p.max(1), p.argmax(1) == y
    z = ((a - c) * (1 - 2 * c)).sum() / np.sqrt(((1 - 2 * c) ** 2 * c * (1 - c)).sum())
    result = metrics.spiegelhalter_test(p, y)
    assert result.statistic == pytest.approx(z)
    assert result.p_value == pytest.approx(2 * gaussian.sf(abs(z)))
    assert metrics.spiegelhalter_test(np.array([1.0, 0.0]), np.array([1, 0]), scope=1).p_value == 1.0
    assert metrics.spiegelhalter_test(np.array([1.0, 0.0]), np.array([1, 1]), scope=1).p_value == 0.0


@pytest.mark.parametrize("metric", ["ece", "ks", "smooth_ece", "spiegelhalter"])
def test_p_values_are_uniform_for_calibrated_models_and_small_for_others(metric):
    def p_value(p, y, seed):
        if metric == "spiegelhalter":
            return metrics.spiegelhalter_test(p, y, scope=1).p_value
        return metrics.consistency_test(p, y, scope=1, metric=metric, resamples=99, seed=seed).p_value

    rng = np.random.default_rng(0)
    calibrated, distorted = [], []
    draws = 30 if metric == "smooth_ece" else 80
    for seed in range(draws):
        p = rng.beta(2, 1, 300)
        y = (rng.random(300) < p).astype(int)
        calibrated.append(p_value(p, y, seed))
        distorted.append(p_value(p**3, y, seed))
    # Kolmogorov's 0.1% bound on the largest distance of n uniform numbers from the diagonal.
    ordered = np.sort(calibrated)
    assert np.abs(ordered - (np.arange(draws) + 0.5) / draws).max() < 1.95 / np.sqrt(draws)
    assert np.median(distorted) <= 0.011


def test_tests_check_their_arguments(sample):
    p, y = sample(n=50)
    with pytest.raises(ValueError, match="metric must be"):
        metrics.consistency_test(p, y, metric="brier")
    with pytest.raises(ValueError, match="resamples must be"):
        metrics.consistency_test(p, y, resamples=10)
    with pytest.raises(ValueError, match="ask for scope=k"):
        metrics.consistency_test(p, y, scope="class-wise")
