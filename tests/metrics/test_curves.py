"""The curves: they are the metrics bin by bin, and the interval of each bin's accuracy is Wilson's."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import binomtest

from labelsmooth import metrics


@pytest.mark.parametrize("binning", ["equal-mass", "equal-width"])
def test_the_reliability_curve_sums_to_the_metrics(sample, binning):
    p, y = sample(n=600)
    curve = metrics.reliability_curve(p, y, 8, binning)
    assert curve.ece == pytest.approx(metrics.ece(p, y, bins=8, binning=binning), abs=1e-12)
    assert curve.mean_gap == pytest.approx(metrics.confidence_gap(p, y), abs=1e-12)
    assert curve.histogram.sum() == 600


def test_the_interval_of_a_bin_is_wilsons(sample):
    p, y = sample(n=300)
    curve = metrics.reliability_curve(p, y, 20, "equal-width", level=0.9)
    assert np.isnan(curve.low[curve.count == 0]).all()
    for b in np.flatnonzero(curve.count):
        test = binomtest(round(curve.accuracy[b] * curve.count[b]), int(curve.count[b]))
        expected = test.proportion_ci(0.9, method="wilson")
        assert (curve.low[b], curve.high[b]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        metrics.reliability_curve(p, y, level=95)


def test_the_plain_record_survives_json(sample):
    record = metrics.reliability_curve(*sample(n=100), binning="equal-width").plain()
    assert record.confidence[0] is None
    assert metrics.Reliability(**json.loads(json.dumps(dataclasses.asdict(record), allow_nan=False))) == record


def test_the_risk_coverage_curve_is_the_risk_at_each_coverage(sample):
    p, y = sample(n=200)
    curve = metrics.risk_coverage(p, y, points=20)
    for coverage, risk in zip(curve.coverage, curve.risk, strict=True):
        assert risk == metrics.risk_at_coverage(p, y, coverage=float(coverage))
    assert curve.aurc == metrics.aurc(p, y)
    assert curve.risk[-1] == pytest.approx(curve.error)
    with pytest.raises(ValueError, match="points must be at least 1"):
        metrics.risk_coverage(p, y, points=0)


def test_the_histogram_counts_every_prediction_once(sample):
    p, y = sample(n=200)
    histogram = metrics.confidence_histogram(p, y)
    assert histogram.right.sum() == (p.argmax(1) == y).sum()
    assert histogram.wrong.sum() == (p.argmax(1) != y).sum()
    assert histogram.confidence == pytest.approx(p.max(1).mean())
    assert histogram.accuracy == pytest.approx(1 - metrics.error(p, y))
    with pytest.raises(ValueError, match="cells must be at least 1"):
        metrics.confidence_histogram(p, y, cells=0)
