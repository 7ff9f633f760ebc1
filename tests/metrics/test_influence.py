"""Influence values: the mean is the metric, the spread its standard error; against jackknife and bootstrap."""

import numpy as np
import pytest

from labelsmooth import metrics

CASES = [
    ("error", {}),
    ("nll", {}),
    ("brier", {}),
    ("confidence_gap", {}),
    ("aurc", {}),
    ("ece", {}),
    ("ece", {"binning": "equal-width"}),
    ("ece", {"norm": "l2"}),
    ("ece", {"norm": "max", "bins": 5}),
    ("ece", {"scope": "class-wise"}),
    ("ece", {"scope": 1, "norm": "l2", "bins": 10}),
    ("ece", {"scope": "class-wise", "norm": "l2", "bins": 4}),
    ("ece", {"scope": "class-wise", "norm": "max", "bins": 2}),
]


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_mean_is_the_metric(sample, name, options, decimals):
    p, y = sample(decimals=decimals)
    psi = metrics.influence(name, p, y, **options)
    assert psi.dtype == np.float64
    assert psi.shape == y.shape
    assert psi.mean() == pytest.approx(getattr(metrics, name)(p, y, **options), abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 1])
def test_aurc_values_are_the_exact_jackknife(sample, decimals):
    p, y = sample(n=60, decimals=decimals)
    n, full = len(y), metrics.aurc(p, y)
    pseudo = np.array([n * full - (n - 1) * metrics.aurc(np.delete(p, i, 0), np.delete(y, i)) for i in range(n)])
    assert metrics.influence("aurc", p, y) == pytest.approx(pseudo - pseudo.mean() + full, abs=1e-11)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_leaving_an_example_out_changes_the_metric_by_its_influence(sample, name, options):
    # Equal-width edges stay where they are when an example leaves, as the derivative assumes.
    options = options | ({"binning": "equal-width"} if name == "ece" else {})
    p, y = sample(n=3000)
    psi, full = metrics.influence(name, p, y, **options), getattr(metrics, name)(p, y, **options)
    chosen = range(0, 3000, 150)
    change = np.array([full - getattr(metrics, name)(np.delete(p, i, 0), np.delete(y, i), **options) for i in chosen])
    assert 2999 * change == pytest.approx((psi - full)[list(chosen)], abs=0.02 * psi.std() + 1e-9, rel=0.02)


@pytest.mark.parametrize(("name", "options"), CASES[:8])
def test_the_standard_error_is_the_bootstraps(sample, name, options):
    options = options | ({"binning": "equal-width", "bins": 8} if name == "ece" else {})
    p, y = sample(n=2000, sharpness=2.5)
    psi = metrics.influence(name, p, y, **options)
    rng = np.random.default_rng(0)
    function = getattr(metrics, name)
    draws = [function(p[i], y[i], **options) for i in rng.integers(0, 2000, (400, 2000))]
    # 400 draws know a standard deviation to 3.5%.
    assert psi.std(ddof=1) / 2000**0.5 == pytest.approx(np.std(draws), rel=0.12)


def test_a_dense_example_is_one_unit(sample):
    p, y = sample(n=400)
    psi = metrics.influence("brier", p, y)
    dense = p.reshape(100, 4, 5).transpose(0, 2, 1)
    assert metrics.influence("brier", dense, y.reshape(100, 4)) == pytest.approx(psi.reshape(100, 4).mean(1), abs=1e-12)
    labels = y.reshape(100, 4).copy()
    labels[:30, 2:] = -1
    values = metrics.influence("ece", dense, labels, ignore_index=-1, bins=4)
    assert values.shape == (100,)
    assert values.mean() == pytest.approx(metrics.ece(dense, labels, ignore_index=-1, bins=4), abs=1e-12)


def test_unknown_metrics_and_options_are_refused(sample):
    p, y = sample(n=10)
    with pytest.raises(ValueError, match="metric must be one of 'error'"):
        metrics.influence("accuracy", p, y)
    with pytest.raises(ValueError, match="brier does not take the options"):
        metrics.influence("brier", p, y, bins=3)
