"""Vector, matrix and Dirichlet scaling against independent optimisers, and folding into a layer."""

import numpy as np
import pytest
import torch
from draws import draw_unequal, nll
from scipy.optimize import minimize
from scipy.special import log_softmax

from labelsmooth.calibrate import DirichletCalibration, MatrixScaling, TemperatureScaling, VectorScaling, fold


def test_vector_scaling_minimises_its_objective():
    z, y = draw_unequal()
    fitted, temperature = VectorScaling(prior=5.0).fit(z, y), TemperatureScaling().fit(z, y).temperature_

    def objective(parameters):
        a, b = parameters[:3], parameters[3:]
        penalty = ((a * temperature - 1) ** 2).sum() + (b**2).sum()
        return nll(a * z + b, y) + 5.0 / (2 * len(y)) * penalty

    best = minimize(objective, np.r_[np.ones(3), np.zeros(3)], method="BFGS", options={"gtol": 1e-8})
    assert np.r_[fitted.scale_, fitted.intercept_] == pytest.approx(best.x, abs=1e-4)
    assert fitted.intercept_.sum() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("calibrator", [MatrixScaling, DirichletCalibration])
def test_matrix_scaling_minimises_its_objective(calibrator):
    z, y = draw_unequal()
    x = z if calibrator is MatrixScaling else log_softmax(z, axis=1)
    temperature = TemperatureScaling().fit(x, y).temperature_
    fitted = calibrator(off_diagonal=0.03, intercept=0.05).fit(z, y)

    def objective(parameters):
        m, b = parameters[:9].reshape(3, 3), parameters[9:]
        off = (m**2).sum() - (np.diag(m) ** 2).sum()
        prior = ((np.diag(m) * temperature - 1) ** 2).sum() / (2 * len(y))
        return nll(x @ m.T + b, y) + 0.03 / 6 * off + 0.05 / 3 * (b**2).sum() + prior

    best = minimize(objective, np.r_[np.eye(3).ravel(), np.zeros(3)], method="BFGS", options={"gtol": 1e-8})
    assert np.r_[fitted.matrix_.ravel(), fitted.intercept_] == pytest.approx(best.x, abs=1e-4)


@pytest.mark.parametrize("calibrator", [VectorScaling, MatrixScaling, DirichletCalibration])
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
