"""Intervals of shares against SciPy."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from labelsmooth import metrics
from labelsmooth.metrics.binomial import beta_quantile, clopper_pearson, wilson


@pytest.mark.parametrize(("successes", "trials"), [(0, 20), (1, 20), (7, 20), (20, 20), (3, 5000), (4999, 100_000)])
def test_intervals_are_scipys(successes, trials):
    test = binomtest(successes, trials)
    exact, score = test.proportion_ci(0.9, method="exact"), test.proportion_ci(0.9, method="wilson")
    assert clopper_pearson(successes, trials, 0.9) == pytest.approx((exact.low, exact.high), abs=1e-10)
    low, high = wilson(np.array([successes / trials]), np.array([float(trials)]), 0.9)
    assert (low[0], high[0]) == pytest.approx((score.low, score.high), abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0.3, 12.7), (5.5, 0.8), (400.2, 3.0), (2e4, 1e5)])
def test_the_beta_quantile_takes_numbers_that_are_not_whole(a, b):
    for probability in (0.001, 0.025, 0.5, 0.975):
        assert beta_quantile(probability, a, b) == pytest.approx(beta.ppf(probability, a, b), rel=1e-8)


def test_the_error_of_a_sample_without_errors_is_bounded():
    estimate = metrics.error(np.tile([0.9, 0.1], (200, 1)), np.zeros(200, dtype=int), interval=0.95)
    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert estimate.high == pytest.approx(1 - 0.025 ** (1 / 200))
