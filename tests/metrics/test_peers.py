"""Agreement with scikit-learn and torchmetrics where the definitions agree, and the places where they do not."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from labelsmooth import metrics


def torchmetrics_binary(p, y, bins, norm="l1"):
    return float(binary_calibration_error(torch.from_numpy(p), torch.from_numpy(y), bins, norm))


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_equal_width_ece_is_torchmetrics(sample, norm):
    p, y = sample(n=4000)
    theirs = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(y), 5, 15, norm)
    # torchmetrics makes its edges and one-hot labels in float32.
    assert metrics.ece(p, y, binning="equal-width", norm=norm) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize(("binning", "strategy"), [("equal-width", "uniform"), ("equal-mass", "quantile")])
def test_the_curve_is_scikit_learns(sample, binning, strategy):
    p, y = sample(n=3000, k=2)
    curve = metrics.reliability_curve(p[:, 1], y, 15, binning, scope=1)
    accuracy, confidence = calibration_curve(y, p[:, 1], n_bins=15, strategy=strategy)
    filled = curve.count > 0
    # scikit-learn interpolates its quantiles: with continuous confidences and 15 | N, the bins hold the same rows.
    assert curve.accuracy[filled] == pytest.approx(accuracy, abs=1e-12)
    assert curve.confidence[filled] == pytest.approx(confidence, abs=1e-12)


def test_a_confidence_of_one_has_no_bin_of_its_own():
    p, y = np.array([1.0, 1.0, 1.0, 1.0, 0.95, 0.95]), np.array([1, 1, 1, 0, 1, 1])
    # (0.9, 1] holds all six: mean confidence 5.9 / 6, accuracy 5 / 6. torchmetrics counts 1.0 as a bin beyond.
    assert metrics.ece(p, y, bins=10, binning="equal-width", scope=1) == pytest.approx(0.15)
    assert torchmetrics_binary(p, y, 10) == pytest.approx(1.1 / 6)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    p, y = np.array([0.2, 0.3]), np.array([0, 1])
    # (0, 0.2] and (0.2, 0.4], as in Guo et al. and in scikit-learn; torchmetrics closes bins on the left.
    assert metrics.ece(p, y, bins=5, binning="equal-width", scope=1) == pytest.approx((0.2 + 0.7) / 2)
    accuracy, confidence = calibration_curve(y, p, n_bins=5)
    assert np.abs(accuracy - confidence).mean() == pytest.approx((0.2 + 0.7) / 2)
    assert torchmetrics_binary(p, y, 5) == pytest.approx(0.25)
