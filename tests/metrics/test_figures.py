"""The pictures: their records are the metrics, and what is drawn is what the records say."""

import numpy as np
import pytest

from labelsmooth import metrics
from labelsmooth.metrics import Interval, figures

HOW = Interval(resamples=200)


@pytest.mark.parametrize("binning", ["equal-mass", "equal-width"])
def test_the_reliability_record_is_the_curve_with_a_band(sample, binning):
    p, y = sample(n=600)
    record = figures.prepare_reliability(p, y, bins=8, binning=binning, interval=HOW)
    curve = metrics.reliability_curve(p, y, 8, binning)
    np.testing.assert_array_equal(record.accuracy, curve.accuracy)
    assert record.ece == pytest.approx(metrics.ece(p, y, bins=8, binning=binning), abs=1e-12)
    assert record.gap == pytest.approx(metrics.confidence_gap(p, y), abs=1e-12)
    filled = record.count > 0
    assert (record.low[filled] <= record.accuracy[filled]).all()
    assert (record.accuracy[filled] <= record.high[filled]).all()
    assert np.isnan(record.low[~filled]).all()
    middle = filled & (record.count > 50)
    error = np.sqrt(record.accuracy * (1 - record.accuracy) / np.maximum(record.count, 1))
    assert (record.high - record.low)[middle] == pytest.approx(3.92 * error[middle], rel=0.35)


def test_the_gap_in_words():
    p = np.tile([0.8, 0.2], (10, 1))
    words = [
        figures.prepare_reliability(p, np.array([0] * right + [1] * (10 - right)), interval=HOW).sentence
        for right in (6, 8, 10)
    ]
    assert words == [
        "20.0 points over-confident on average",
        "confidence and accuracy agree on average",
        "20.0 points under-confident on average",
    ]


def test_the_risk_record_is_the_risk_at_each_coverage(sample):
    p, y = sample(n=200)
    record = figures.prepare_risk_coverage(p, y, points=20)
    for coverage, risk in zip(record.coverage, record.risk, strict=True):
        assert risk == metrics.risk_at_coverage(p, y, coverage=float(coverage))
    assert record.aurc == metrics.aurc(p, y)
    assert record.risk[-1] == pytest.approx(record.error)


def test_the_histogram_counts_every_prediction_once(sample):
    p, y = sample(n=200)
    record = figures.prepare_histogram(p, y)
    assert record.right.sum() == (p.argmax(1) == y).sum()
    assert record.wrong.sum() == (p.argmax(1) != y).sum()
    assert record.confidence == pytest.approx(p.max(1).mean())
    assert record.accuracy == pytest.approx(1 - metrics.error(p, y))


def test_plots_draw_their_records(sample, tmp_path):
    p, y = sample(n=600)
    record = figures.prepare_reliability(p, y, bins=8, interval=HOW, name="a model")
    axes = figures.plot_reliability(record)
    line = next(one for one in axes.lines if one.get_label() == "accuracy")
    np.testing.assert_array_equal(line.get_xydata(), np.stack([record.confidence, record.accuracy], 1))
    assert record.sentence in axes.get_title()
    figures.plot_reliability(record, axes)
    risk = figures.prepare_risk_coverage(p, y, name="a model")
    drawn = figures.plot_risk_coverage([risk, risk])
    np.testing.assert_array_equal(drawn.lines[0].get_ydata(), risk.risk)
    grid = figures.plot_reliability_grid(
        figures.prepare_reliability_grid(p, y, bins=5, interval=HOW, names=list("abcde"))
    )
    assert [a.get_visible() for a in grid.axes] == [True] * 5 + [False] * 3
    assert grid.axes[2].get_title().startswith("c  ECE ")
    assert figures.prepare_reliability_grid(p, y, classes=[3], interval=HOW)[0].ece == pytest.approx(
        metrics.ece(p, y, bins=10, scope=3)
    )
    with pytest.raises(ValueError, match="names are 2, but there are 5"):
        figures.prepare_reliability_grid(p, y, names=["a", "b"])
    both = figures.plot_before_after(record, record)
    histogram = figures.plot_histogram(figures.prepare_histogram(p, y))
    for k, figure in enumerate([axes.figure, drawn.figure, grid, both, histogram.figure]):
        figure.savefig(tmp_path / f"{k}.png")
        assert (tmp_path / f"{k}.png").stat().st_size > 5000
