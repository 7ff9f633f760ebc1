"""Isotonic calibration and histogram binning against their definitions."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from labelsmooth.calibrate import (
    HistogramBinning,
    IsotonicCalibration,
)


def test_a_row_that_every_map_rejects_becomes_uniform():
    z = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]] * 5)
    fitted = IsotonicCalibration().fit(z, np.array([0, 1, 2] * 5))
    assert fitted.predict_proba(np.zeros((1, 3))) == pytest.approx(1 / 3)


def test_histogram_values_are_the_shares_in_equal_mass_bins():
    rng = np.random.default_rng(5)
    z = rng.normal(size=(400, 3))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    w = rng.random(400) + 0.1
    p = HistogramBinning(bins=4).fit(z, y, w).predict_proba(z)
    odds = np.stack([z[:, k] - logsumexp(np.delete(z, k, 1), axis=1) for k in range(3)], axis=1)
    share = np.empty((400, 3))
    for k in range(3):
        order = np.argsort(odds[:, k])
        bounds = [0, *(np.searchsorted(np.cumsum(w[order]), w.sum() * j / 4) + 1 for j in (1, 2, 3)), 400]
        for low, high in pairwise(bounds):
            inside = order[low:high]
            share[inside, k] = (w * (y == k))[inside].sum() / w[inside].sum()
    assert p == pytest.approx(share / share.sum(1, keepdims=True), abs=1e-12)
    with pytest.raises(ValueError, match="bins must be"):
        HistogramBinning(bins=0).fit(z, y)


def test_top_label_isotonic_keeps_the_others_in_proportion():
    rng = np.random.default_rng(6)
    z = rng.normal(size=(800, 4))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    given = 3 * z
    fitted = IsotonicCalibration(scope="top-label").fit(given, y)
    p, raw, top = fitted.predict_proba(given), softmax(given, axis=1), given.argmax(1)
    x, values = fitted.knots_[0]
    odds = given.max(1) - np.array([logsumexp(np.delete(row, row.argmax())) for row in given])
    confidence = np.interp(odds, x, values)
    assert p[np.arange(800), top] == pytest.approx(confidence, abs=1e-9)
    expected = raw * ((1 - confidence) / (1 - raw.max(1)))[:, None]
    expected[np.arange(800), top] = confidence
    assert p == pytest.approx(expected, abs=1e-9)
    assert confidence.mean() == pytest.approx((top == y).mean(), abs=1e-9)  # isotonic regression keeps the mean
    with pytest.raises(ValueError, match="scope must be"):
        IsotonicCalibration(scope="all").fit(z, y)
