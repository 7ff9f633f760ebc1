"""Vector, matrix and Dirichlet scaling against independent optimisers, and folding into a layer."""

import numpy as np
import pytest
import torch
from draws import draw_unequal, nll
from probmetrics.calibrators.logistic import SMSCalibrator, SVSCalibrator
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from labelsmooth.calibrate import (
    DirichletCalibration,
    MatrixScaling,
    StructuredMatrixScaling,
    StructuredVectorScaling,
    TemperatureScaling,
    VectorScaling,
    fold,
)


def test_vector_scaling_minimises_its_objective():
    z, y = draw_unequal()
    fitted, temperature = VectorScaling(strength=5.0).fit(z, y), TemperatureScaling().fit(z, y).temperature_

    def objective(parameters):
        a, b = parameters[:3], parameters[3:]
        penalty = ((a * temperature - 1) ** 2).sum() + (b**2).sum()
        return nll(a * z + b, y) + 5.0 * 3 / len(y) * penalty

    best = minimize(objective, np.r_[np.ones(3), np.zeros(3)], method="BFGS", options={"gtol": 1e-8})
    assert np.r_[fitted.scale_, fitted.intercept_] == pytest.approx(best.x, abs=1e-4)
    assert fitted.intercept_.sum() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("calibrator", [MatrixScaling, DirichletCalibration])
def test_matrix_scaling_minimises_its_objective(calibrator):
    z, y = draw_unequal()
    x = z if calibrator is MatrixScaling else log_softmax(z, axis=1)
    temperature = TemperatureScaling().fit(x, y).temperature_
    fitted = calibrator(strength=0.5).fit(z, y)

    def objective(parameters):
        m, b = parameters[:9].reshape(3, 3), parameters[9:]
        off = temperature**2 * ((m**2).sum() - (np.diag(m) ** 2).sum())
        diagonal = ((np.diag(m) * temperature - 1) ** 2).sum()
        return nll(x @ m.T + b, y) + 0.5 / len(y) * (3 * diagonal + 6 * off + 3 * (b**2).sum())

    best = minimize(objective, np.r_[np.eye(3).ravel(), np.zeros(3)], method="BFGS", options={"gtol": 1e-8})
    assert np.r_[fitted.matrix_.ravel(), fitted.intercept_] == pytest.approx(best.x, abs=1e-4)


@pytest.mark.parametrize("calibrator", [VectorScaling, MatrixScaling, DirichletCalibration, StructuredVectorScaling])
def test_masked_classes_are_refused_where_they_mean_nothing(calibrator):
    z, y = draw_unequal()
    z[:, 2] = -np.inf
    with pytest.raises(ValueError, match="cannot take masked classes"):
        calibrator().fit(z, np.minimum(y, 1))


def test_vector_scaling_runs_on_tensors_that_need_gradients():
    z, y = draw_unequal(n=200)
    with torch.no_grad():
        fitted = VectorScaling().fit(torch.tensor(z, requires_grad=True), torch.tensor(y))
    assert fitted.scale_.shape == (3,)


@pytest.mark.parametrize("calibrator", [TemperatureScaling, VectorScaling, MatrixScaling])
@pytest.mark.parametrize("bias", [False, True])
def test_folding_gives_the_calibrated_logits(calibrator, bias):
    torch.manual_seed(0)
    layer, h = torch.nn.Linear(6, 4, bias=bias), torch.randn(300, 6)
    y = torch.distributions.Categorical(logits=3 * layer(h)).sample()
    fitted = calibrator().fit(layer(h), y)
    before = layer.weight.clone()
    folded = fold(fitted, layer)
    assert torch.allclose(folded(h).softmax(1), fitted.predict_proba(layer(h)), atol=1e-6)
    assert torch.equal(layer.weight, before)
    with pytest.raises(ValueError, match="layer has 5 outputs"):
        fold(fitted, torch.nn.Linear(6, 5))


def test_only_affine_maps_fold():
    fitted = DirichletCalibration().fit(*draw_unequal(k=4))
    with pytest.raises(TypeError, match="use to_module"):
        fold(fitted, torch.nn.Linear(3, 4))


@pytest.mark.parametrize("k", [3, 8])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(StructuredVectorScaling, SVSCalibrator), (StructuredMatrixScaling, SMSCalibrator)]
)
def test_structured_scaling_is_probmetrics(ours, theirs, k):
    z, y = draw_unequal(n=1000, k=k)
    z *= 2
    fitted = ours().fit(z, y)
    p = softmax(z, axis=1)
    # Theirs has no prior on the temperature.
    assert fitted.predict_proba(z) == pytest.approx(theirs().fit(p, y).predict_proba(p), abs=5e-3)
    # The second stage, on the same logarithms of the first.
    q = (1 - fitted.uniform_) * softmax(z / fitted.temperature_, axis=1) + fitted.uniform_ / k
    strengths = {"reg_intercept": k / 1000, "reg_diagonal": k / 1000}
    log_q, labels = torch.from_numpy(np.log(q)), torch.from_numpy(y)
    if ours is StructuredVectorScaling:
        scale, shift = theirs()._fit_bfgs(log_q, labels, k, **strengths)
        expected = log_q.numpy() * scale + shift
    else:
        matrix = theirs()._fit_bfgs(log_q, labels, k, reg_off_diagonal=k * (k - 1) / 1000, **strengths)
        expected = log_q.numpy() @ matrix[:, :k].T + matrix[:, k]
    assert fitted.uniform_ == 1 / 1001
    assert fitted.predict_proba(z) == pytest.approx(
        softmax(expected, axis=1),
        abs=5e-4,  # their search stops at a gradient of 1e-5
    )
