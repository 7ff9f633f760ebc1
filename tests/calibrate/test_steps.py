"""Isotonic calibration and histogram binning against their definitions."""

from itertools import pairwise

import numpy as np
import pytest
from draws import draw
from scipy.optimize import isotonic_regression
from scipy.special import logsumexp, softmax

from labelsmooth.calibrate import (
    HistogramBinning,
    IsotonicCalibration,
)


def centred(p, yes, w):
    """Scores and values of a centred isotonic regression, one more positive below all rows and negative above."""
    order = np.argsort(p, kind="stable")
    target = np.r_[1.0, yes[order], 0.0]
    levels = isotonic_regression(target, weights=np.r_[1.0, w[order], 1.0]).x[1:-1]
    values = np.unique(levels)
    at = [np.average(p[order][levels == v], weights=w[order][levels == v]) for v in values]
    return np.array(at), values


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [2, 4])
def test_isotonic_is_the_centred_regression(k, weighted):
    rng = np.random.default_rng(6)
    z, y = draw(k=k)
    w = rng.uniform(0.5, 2.0, len(y)) if weighted else np.ones(len(y))
    test, p = draw(k=k, seed=1)[0], softmax(z, axis=1)
    fitted = IsotonicCalibration().fit(z, y, w)
    expected = np.stack(
        [np.interp(softmax(test, axis=1)[:, j], *centred(p[:, j], (y == j).astype(float), w)) for j in range(k)], axis=1
    )
    expected = np.stack([1 - expected[:, 1], expected[:, 1]], 1) if k == 2 else expected / expected.sum(1)[:, None]
    assert fitted.predict_proba(test) == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*each class is fitted on its own")
@pytest.mark.parametrize("calibrator", [IsotonicCalibration, HistogramBinning])
@pytest.mark.parametrize("k", [2, 5])
def test_no_probability_is_0_or_1(calibrator, k):
    z, y = draw(n=60, k=k)
    y[y == k - 1] = 0  # a class without rows
    fitted = calibrator().fit(8 * z, y)
    p = fitted.predict_proba(50 * draw(n=500, k=k, seed=1)[0])
    assert p.min() > 1e-4
    assert p.max() < 1.0


def test_isotonic_keeps_the_order_of_the_rows():
    z, y = draw(k=2)
    inner = np.sort(softmax(z, axis=1)[:, 1])[100:-100]
    calibrated = IsotonicCalibration().fit(z, y).predict_proba(probabilities=inner)[:, 1]
    assert (np.diff(calibrated) > 0).all()


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
            prior = ((w * (y == k)).sum() + 1) / (w.sum() + 3)
            share[inside, k] = ((w * (y == k))[inside].sum() + prior) / (w[inside].sum() + 1)
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
    confidence = np.interp(raw.max(1), x, values)
    assert p[np.arange(800), top] == pytest.approx(confidence, abs=1e-9)
    expected = raw * ((1 - confidence) / (1 - raw.max(1)))[:, None]
    expected[np.arange(800), top] = confidence
    assert p == pytest.approx(expected, abs=1e-9)
    expected = centred(raw.max(1), (top == y).astype(float), np.ones(800))
    assert np.stack(fitted.knots_[0]) == pytest.approx(np.stack(expected), abs=1e-12)
    with pytest.raises(ValueError, match="scope must be"):
        IsotonicCalibration(scope="all").fit(z, y)
