"""The plots draw what the metrics' curves say."""

import numpy as np
import pytest

from labelsmooth import metrics, report


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    z = 1.5 * rng.normal(size=(600, 5))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    p = np.exp(2 * z)
    return p / p.sum(1, keepdims=True), y


def test_the_gap_in_words():
    p = np.tile([0.8, 0.2], (10, 1))
    sentences = [
        report.gap_sentence(metrics.reliability_curve(p, np.array([0] * right + [1] * (10 - right))))
        for right in (6, 8, 10)
    ]
    assert sentences == [
        "20.0 points over-confident on average",
        "confidence and accuracy agree on average",
        "20.0 points under-confident on average",
    ]


def test_plots_draw_their_curves(predictions, tmp_path):
    p, y = predictions
    curve = metrics.reliability_curve(p, y, bins=8)
    axes = report.plot_reliability(curve, name="a model")
    line = next(one for one in axes.lines if one.get_label() == "accuracy")
    np.testing.assert_array_equal(line.get_xydata(), np.stack([curve.confidence, curve.accuracy], 1))
    assert axes.get_title().startswith("a model\nECE ")
    assert report.gap_sentence(curve) in axes.get_title()
    assert report.plot_reliability(curve, axes) is axes
    risk = metrics.risk_coverage(p, y)
    risk_axes = report.plot_risk_coverage({"first": risk, "second": risk})
    np.testing.assert_array_equal(risk_axes.lines[0].get_ydata(), risk.risk)
    classes = [metrics.reliability_curve(p, y, bins=5, scope=k) for k in range(5)]
    grid = report.plot_reliability_grid(classes, list("abcde"))
    assert [panel.get_visible() for panel in grid.axes] == [True] * 5 + [False] * 3
    assert grid.axes[2].get_title().startswith("c  ECE ")
    with pytest.raises(ValueError, match="names are 2, but there are 5"):
        report.plot_reliability_grid(classes, ["a", "b"])
    both = report.plot_before_after(curve, curve)
    histogram = report.plot_histogram(metrics.confidence_histogram(p, y))
    for k, figure in enumerate([axes.figure, risk_axes.figure, grid, both, histogram.figure]):
        figure.savefig(tmp_path / f"{k}.png")
        assert (tmp_path / f"{k}.png").stat().st_size > 5000
