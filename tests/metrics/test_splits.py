"""The Brier score and the NLL split into calibration and refinement, and the intervals of the parts."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from labelsmooth import metrics


def test_the_brier_split_adds_up_and_refinement_is_the_recalibrated_score(sample):
    p, y = sample(n=600, k=3)
    split = metrics.brier_split(p, y, bins=6)
    assert split.brier == pytest.approx(metrics.brier(p, y), abs=1e-12)
    assert split.calibration + split.refinement == pytest.approx(split.brier, abs=1e-12)
    assert split.uncertainty - split.resolution == pytest.approx(split.refinement, abs=1e-12)
    recalibrated = np.empty_like(p)
    for k in range(3):
        for b in np.array_split(np.argsort(p[:, k]), 6):
            recalibrated[b, k] = (y[b] == k).mean()
    assert split.refinement == pytest.approx(((recalibrated - np.eye(3)[y]) ** 2).sum(1).mean(), abs=1e-12)
    binary = metrics.brier_split(p[:, 1], (y == 1).astype(int), bins=6)
    assert binary.brier == pytest.approx(((p[:, 1] - (y == 1)) ** 2).mean(), abs=1e-12)


def test_the_nll_split_finds_the_temperature(sample):
    p, y = sample(n=3000, sharpness=2.0)
    split = metrics.nll_split(p, y, interval=metrics.Interval(resamples=100))
    fitted = minimize_scalar(lambda t: metrics.nll(logits=np.log(p) / t, labels=y), bounds=(0.1, 10), method="bounded")
    assert split.temperature == pytest.approx(fitted.x, rel=1e-3)
    assert split.refinement.value == pytest.approx(fitted.fun, abs=1e-8)
    assert split.nll.value == pytest.approx(metrics.nll(p, y), abs=1e-12)
    assert split.calibration.value == pytest.approx(split.nll.value - split.refinement.value, abs=1e-12)
    assert 0 < split.calibration.low < split.calibration.value < split.calibration.high
    assert metrics.nll_split(p[:, :2] / p[:, :2].sum(1, keepdims=True), y % 2).refinement < np.log(2)
    with pytest.raises(ValueError, match="has probability 0"):
        metrics.nll_split(np.array([[1.0, 0.0]]), np.array([1]))


@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_intervals_of_the_parts_hold_the_truth_in_small_samples(slope):
    """In bins of 4 rows the plain resamples hold the parts of the Brier score in 0 to 40%, and never a gain of 0."""
    rng, held = np.random.default_rng(0), np.zeros(3)
    odds = rng.normal(0.0, 2.0, 100_000)
    claimed, true = 1 / (1 + np.exp(-slope * odds)), 1 / (1 + np.exp(-odds))
    nll = (-true * np.log(claimed) - (1 - true) * np.log1p(-claimed)).mean()
    least = (-true * np.log(true) - (1 - true) * np.log1p(-true)).mean()
    for seed in range(25):
        z = rng.normal(0.0, 2.0, 60)
        p, y = 1 / (1 + np.exp(-slope * z)), (rng.random(60) < 1 / (1 + np.exp(-z))).astype(int)
        settings = metrics.Interval(resamples=100, seed=seed)
        gain = metrics.nll_split(p, y, interval=settings).calibration
        split = metrics.brier_split(p, y, interval=settings)
        bins = np.searchsorted(np.quantile(p, np.arange(1, 15) / 15, method="inverted_cdf"), claimed)
        share = (np.bincount(bins, true) / np.bincount(bins))[bins]
        refinement, brier = (share * (1 - share)).mean(), (true * (1 - claimed) ** 2 + (1 - true) * claimed**2).mean()
        truths = (nll - least, brier - refinement, refinement)
        estimates = (gain, split.calibration, split.refinement)
        held += [e.low - 1e-9 <= truth <= e.high for e, truth in zip(estimates, truths, strict=True)]
    assert (held >= 21).all()
