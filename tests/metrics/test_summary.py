"""The summary is the metrics, also of rows read in chunks; multi-label predictions are counted by example."""

import numpy as np
import pytest

from labelsmooth import metrics
from labelsmooth.metrics import Interval
from labelsmooth.metrics.catalogue import SUMMARY
from labelsmooth.metrics.inputs import read
from labelsmooth.metrics.rows import Reduced
from labelsmooth.metrics.summary import summarise


def test_a_summary_is_each_metric_with_its_interval(sample):
    p, y = sample(n=300)
    interval = Interval(resamples=100)
    values = metrics.summary(p, y, interval=interval)
    assert tuple(values) == SUMMARY
    assert {"error", "nll", "brier", "ece", "smooth_ece", "confidence_gap"} <= set(values)
    for name, estimate in values.items():
        assert estimate == getattr(metrics, name)(p, y, interval=interval)
    chunks = (read(p[i : i + 77], y[i : i + 77]) for i in range(0, 300, 77))
    assert summarise(Reduced.join(chunks), interval) == values


def test_reduced_rows_can_be_selected_but_hold_no_classes(sample):
    p, y = sample(n=100)
    rows = Reduced.join([read(p, y)])
    half = rows.select(np.arange(100) < 50)
    assert half.rows == 50
    assert summarise(half, Interval(resamples=100))["nll"].value == pytest.approx(metrics.nll(p[:50], y[:50]))
    with pytest.raises(ValueError, match="nothing to measure"):
        Reduced.join([])
    with pytest.raises(ValueError, match="reduced rows"):
        metrics.calibration_error.ece.statistic(rows, scope=0)


def test_multi_label_predictions_are_yes_or_no_questions_drawn_by_example():
    rng = np.random.default_rng(0)
    p = rng.random((120, 6))
    y = (rng.random((120, 6)) < p).astype(int)
    assert metrics.brier(p, y) == pytest.approx(((p - y) ** 2).mean(), abs=1e-12)
    assert metrics.error(p, y) == pytest.approx(((p > 0.5) != y).mean(), abs=1e-12)
    assert metrics.ece(p, y, scope=1) == pytest.approx(metrics.ece(p.ravel(), y.ravel(), scope=1), abs=1e-12)
    psi = metrics.influence("brier", p, y)
    assert psi == pytest.approx(((p - y) ** 2).mean(1), abs=1e-12)
    assert "120 examples" in metrics.error(p, y, interval=Interval(resamples=100)).method
