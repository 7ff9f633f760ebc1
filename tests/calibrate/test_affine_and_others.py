"""Vector, matrix, Dirichlet, beta, ensemble and histogram calibration against independent optimisers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from labelsmooth.calibrate import (
    BetaCalibration,
    DirichletCalibration,
    EnsembleTemperatureScaling,
    HistogramBinning,
    IsotonicCalibration,
    MatrixScaling,
    TemperatureScaling,
    VectorScaling,
)


def make(n=1500, k=3, seed=0):
    """Logits whose best map has class-dependent scales and shifts."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, k))
    true = z * np.linspace(0.5, 1.5, k) + np.linspace(1.0, -1.0, k)
    return z, (true + rng.gumbel(size=z.shape)).argmax(1)


def nll(z, y):
    return -log_softmax(z, axis=1)[np.arange(len(y)), y].mean()


def test_vector_scaling_minimises_its_objective():
    z, y = make()
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
    z, y = make()
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


@pytest.mark.parametrize("calibrator", [VectorScaling, MatrixScaling, DirichletCalibration, BetaCalibration])
def test_separable_data_and_an_absent_class_stay_finite(calibrator):
    z = np.repeat(3 * np.eye(4), 10, axis=0)[:30]
    fitted = calibrator().fit(z, np.repeat(np.arange(3), 10))
    assert np.isfinite(fitted.transform(z)).all()
    assert nll(fitted.transform(z), np.repeat(np.arange(3), 10)) < nll(z, np.repeat(np.arange(3), 10))


@pytest.mark.parametrize("calibrator", [VectorScaling, MatrixScaling, DirichletCalibration])
def test_masked_classes_are_refused_where_they_mean_nothing(calibrator):
    z, y = make()
    z[:, 2] = -np.inf
    with pytest.raises(ValueError, match="cannot take masked classes"):
        calibrator().fit(z, np.minimum(y, 1))


def test_beta_minimises_its_objective_and_never_falls():
    rng = np.random.default_rng(3)
    s = 2 * rng.normal(size=3000)
    log_p, log_q = -np.logaddexp(0, -s), -np.logaddexp(0, s)
    y = (rng.random(3000) < 1 / (1 + np.exp(-(0.6 * log_p - 1.7 * log_q + 0.4)))).astype(int)

    def objective(parameters):
        t = parameters[0] * log_p - parameters[1] * log_q + parameters[2]
        return (np.logaddexp(0, t) - y * t).sum() + 0.5 * ((parameters - [1, 1, 0]) ** 2).sum()

    best = minimize(objective, [1.0, 1.0, 0.0], method="BFGS", options={"gtol": 1e-6})
    assert BetaCalibration().fit(s, y).coefficients_[0] == pytest.approx(best.x, abs=1e-5)
    fallen = BetaCalibration().fit(s, 1 - y)
    assert (fallen.coefficients_[0, :2] == 0).all()
    assert fallen.predict_proba(s)[:, 1] == pytest.approx((1 - y).mean(), abs=1e-3)


def test_ensemble_weights_minimise_the_nll_on_the_triangle():
    rng = np.random.default_rng(4)
    z = rng.normal(size=(3000, 4))
    y = np.where(rng.random(3000) < 0.3, rng.integers(0, 4, 3000), (4 * z + rng.gumbel(size=z.shape)).argmax(1))
    fitted = EnsembleTemperatureScaling().fit(8 * z, y)
    parts = [softmax(8 * z / fitted.temperature_, axis=1), softmax(8 * z, axis=1), np.full((3000, 4), 0.25)]
    likelihood = np.stack([p[np.arange(3000), y] for p in parts], axis=1)
    best = minimize(
        lambda w: -np.log(likelihood @ w).mean(),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12},
    )
    assert -np.log(likelihood @ fitted.weights_).mean() == pytest.approx(best.fun, abs=2e-6)
    mixed = sum(w * p for w, p in zip(fitted.weights_, parts, strict=True))
    assert fitted.predict_proba(8 * z) == pytest.approx(mixed, abs=1e-12)
    assert (fitted.predict(8 * z) == z.argmax(1)).all()


def test_histogram_values_are_the_shares_in_equal_mass_bins():
    rng = np.random.default_rng(5)
    z = rng.normal(size=(400, 3))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    w = rng.random(400) + 0.1
    p = HistogramBinning(bins=4).fit(z, y, w).predict_proba(z)
    odds = np.stack([z[:, k] - logsumexp(np.delete(z, k, 1), axis=1) for k in range(3)], axis=1)
    share = np.empty((400, 3))
    for k in range(3):
        order = np.argsort(odds[:, k])
        bounds = [0, *(np.searchsorted(np.cumsum(w[order]), w.sum() * j / 4) + 1 for j in (1, 2, 3)), 400]
        for low, high in pairwise(bounds):
            inside = order[low:high]
            share[inside, k] = (w * (y == k))[inside].sum() / w[inside].sum()
    assert p == pytest.approx(share / share.sum(1, keepdims=True), abs=1e-12)
    with pytest.raises(ValueError, match="bins must be"):
        HistogramBinning(bins=0).fit(z, y)


def test_top_label_isotonic_keeps_the_others_in_proportion():
    rng = np.random.default_rng(6)
    z = rng.normal(size=(800, 4))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    given = 3 * z
    fitted = IsotonicCalibration(scope="top-label").fit(given, y)
    p, raw, top = fitted.predict_proba(given), softmax(given, axis=1), given.argmax(1)
    x, values = fitted.knots_[0]
    odds = given.max(1) - np.array([logsumexp(np.delete(row, row.argmax())) for row in given])
    confidence = np.interp(odds, x, values)
    assert p[np.arange(800), top] == pytest.approx(confidence, abs=1e-9)
    expected = raw * ((1 - confidence) / (1 - raw.max(1)))[:, None]
    expected[np.arange(800), top] = confidence
    assert p == pytest.approx(expected, abs=1e-9)
    assert confidence.mean() == pytest.approx((top == y).mean(), abs=1e-9)  # isotonic regression keeps the mean
    with pytest.raises(ValueError, match="scope must be"):
        IsotonicCalibration(scope="all").fit(z, y)


def test_vector_scaling_runs_on_tensors_that_need_gradients():
    z, y = make(n=200)
    with torch.no_grad():
        fitted = VectorScaling().fit(torch.tensor(z, requires_grad=True), torch.tensor(y))
    assert fitted.scale_.shape == (3,)
