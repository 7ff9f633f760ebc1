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


def test_plots_draw_their_curves(predictions, tmp_path):
    p, y = predictions
    curve = metrics.reliability_curve(p, y, bins=8)
    axes = report.plot_reliability({"a model": curve})
    line = next(one for one in axes.lines if str(one.get_label()).startswith("a model: ECE "))
    np.testing.assert_array_equal(line.get_xydata(), np.stack([curve.confidence, curve.accuracy], 1))
    assert report.plot_reliability(curve, axes) is axes
    assert report.plot_reliability({"a model": curve}, ece=False).get_legend_handles_labels()[1] == ["a model"]
    risk = metrics.risk_coverage(p, y)
    risk_axes = report.plot_risk_coverage({"first": risk, "second": risk})
    np.testing.assert_array_equal(risk_axes.lines[0].get_ydata(), risk.risk)
    classes = [metrics.reliability_curve(p, y, bins=5, scope=k) for k in range(5)]
    grid = report.plot_reliability_grid(classes, list("abcde"))
    assert [panel.get_visible() for panel in grid.axes] == [True] * 5 + [False] * 3
    assert grid.axes[2].get_title().startswith("c  ECE ")
    with pytest.raises(ValueError, match="names are 2, but there are 5"):
        report.plot_reliability_grid(classes, ["a", "b"])
    ranked = report.plot_by_rank(curve)
    histogram = report.plot_histogram(metrics.confidence_histogram(p, y))
    for k, figure in enumerate([axes.figure, risk_axes.figure, grid, ranked.figure, histogram.figure]):
        figure.savefig(tmp_path / f"{k}.png")
        assert (tmp_path / f"{k}.png").stat().st_size > 5000
