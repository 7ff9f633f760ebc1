"""Platt scaling and beta calibration against scikit-learn and independent optimisers."""

import numpy as np
import pytest
import torch
from draws import draw
from scipy.optimize import minimize
from scipy.special import expit, logsumexp
from sklearn.calibration import _SigmoidCalibration

from labelsmooth.calibrate import BetaCalibration, PlattScaling


@pytest.mark.parametrize("scale", [0.3, 1.0, 12.0])
def test_binary_platt_is_sklearns(scale):
    rng = np.random.default_rng(2)
    z = rng.normal(size=3000) * scale
    y = (rng.random(3000) < expit(1.4 * z / scale - 0.7)).astype(int)
    w = rng.random(3000) + 0.5
    ours, theirs = PlattScaling().fit(z, y), _SigmoidCalibration().fit(z, y)
    # scikit-learn stops its quasi-Newton search earlier.
    assert ours.predict_proba(z)[:, 1] == pytest.approx(theirs.predict(z), abs=1e-4)

    def weighted(parameters, w):
        positive, negative = w[y == 1].sum(), w[y == 0].sum()
        t = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
        u = parameters[0] * z + parameters[1]
        return (w * (np.logaddexp(0, u) - t * u)).sum() / w.sum()

    for weight in (np.ones(3000), w):
        best = minimize(
            weighted,
            [1.0, 0.0],
            args=(weight,),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-15, "maxiter": 2000},
        )
        ours = PlattScaling().fit(z, y, weight)
        assert [ours.slope_[0], ours.intercept_[0]] == pytest.approx(best.x, rel=1e-5, abs=1e-5)


def test_platt_scores_the_log_odds():
    z, y = draw(k=4)
    odds = np.stack([z[:, k] - logsumexp(np.delete(z, k, 1), axis=1) for k in range(4)], axis=1)
    platt = PlattScaling().fit(z, y)
    expected = np.stack([_SigmoidCalibration().fit(odds[:, k], y == k).predict(odds[:, k]) for k in range(4)], axis=1)
    assert platt.predict_proba(z) == pytest.approx(expected / expected.sum(1, keepdims=True), abs=1e-4)


def test_log_odds_keep_their_digits_next_to_one():
    from labelsmooth.calibrate.logistic import log_odds

    odds = log_odds(torch.tensor([[60.0, 0.0, 1.0], [-torch.inf, 0.0, 1.0], [-torch.inf, 0.0, -torch.inf]]).double())
    assert odds[0, 0] == pytest.approx(60 - np.log(1 + np.e), rel=1e-14)
    assert odds[1].tolist() == pytest.approx([-1e30, -1.0, 1.0])
    assert odds[2].tolist() == [-1e30, 1e30, -1e30]


@pytest.mark.filterwarnings("ignore:.*each class is fitted on its own")
def test_platt_is_finite_on_separable_and_constant_data():
    z, y = np.linspace(-3, 3, 20), (np.arange(20) >= 10).astype(int)
    p = PlattScaling().fit(z, y).predict_proba(z)
    assert np.isfinite(p).all()
    assert 0.0 < p.min() < 0.1
    constant = PlattScaling().fit(np.zeros(20), y).predict_proba(np.zeros(20))
    assert constant == pytest.approx(0.5, abs=1e-12)
    one_sided = PlattScaling().fit(z, np.ones(20, int)).predict_proba(z)
    assert one_sided[:, 1] == pytest.approx(21 / 22, abs=1e-6)


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
