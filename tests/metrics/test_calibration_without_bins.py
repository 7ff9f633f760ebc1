"""Calibration error without bins, debiased, and in its two parts, against the definitions."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm as gaussian

from labelsmooth import metrics


@pytest.mark.parametrize("decimals", [None, 1])
def test_ks_is_the_largest_cumulative_gap(sample, decimals):
    p, y = sample(decimals=decimals)
    c, a = p.max(1), p.argmax(1) == y
    expected = max(abs(((c - a) * (c <= t)).sum()) / len(c) for t in np.unique(c))
    assert metrics.ks(p, y) == pytest.approx(expected, abs=1e-12)
    assert metrics.ks(p, y) <= metrics.ece(p, y, bins=400) + 1e-12
    with pytest.raises(ValueError, match="ask for scope=k"):
        metrics.ks(p, y, scope="class-wise")


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.7])
def test_smooth_ece_at_a_bandwidth_is_its_integral(sample, sigma):
    p, y = sample(n=60)
    c, d = p.max(1), p.max(1) - (p.argmax(1) == y)

    def curve(t):
        # Reflected at 0 and 1: the kernel summed over the images of the point.
        images = [c + 2 * k for k in range(-3, 4)] + [2 * k - c for k in range(-3, 4)]
        return abs(sum((d * gaussian.pdf(t, x, sigma)).sum() for x in images)) / len(c)

    integral = quad(curve, 0, 1, limit=400, epsabs=1e-7)[0]
    assert metrics.smooth_ece(p, y, bandwidth=sigma) == pytest.approx(integral, abs=2e-5)


def test_smooth_ece_is_its_own_bandwidth_and_finds_a_known_gap(sample):
    p, y = sample(n=3000, sharpness=3.0)
    value = metrics.smooth_ece(p, y)
    assert metrics.smooth_ece(p, y, bandwidth=value) == pytest.approx(value, abs=1e-6)
    constant, y = np.full(1000, 0.8), (np.arange(1000) < 700).astype(int)
    assert metrics.smooth_ece(constant, y, scope=1) == pytest.approx(0.1, abs=1e-6)
    with pytest.raises(ValueError, match="bandwidth must be"):
        metrics.smooth_ece(constant, y, bandwidth=0.0)


def test_debiased_ece_takes_the_variance_off(sample):
    p, y = sample(n=500)
    c, a = p.max(1), (p.argmax(1) == y).astype(float)
    total = 0.0
    for b in np.array_split(np.argsort(c), 5):
        total += len(b) / 500 * ((c[b].mean() - a[b].mean()) ** 2 - a[b].mean() * (1 - a[b].mean()) / (len(b) - 1))
    assert metrics.debiased_ece(p, y, bins=5) == pytest.approx(max(total, 0) ** 0.5, abs=1e-12)
    values = [metrics.debiased_ece(*sample(n=2000, sharpness=1.0, seed=s)) ** 2 for s in range(30)]
    biased = [metrics.ece(*sample(n=2000, sharpness=1.0, seed=s), norm="l2") ** 2 for s in range(30)]
    assert np.mean(values) < np.mean(biased) / 2


@pytest.mark.parametrize("scope", ["top-label", "class-wise", 2])
def test_over_and_under_confidence_make_up_the_ece(sample, scope):
    p, y = sample()
    over, under = metrics.over_confidence(p, y, scope=scope), metrics.under_confidence(p, y, scope=scope)
    assert over + under == pytest.approx(metrics.ece(p, y, scope=scope), abs=1e-12)
    if scope == "top-label":
        assert over - under == pytest.approx(metrics.confidence_gap(p, y), abs=1e-12)
