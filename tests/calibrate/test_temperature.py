"""Temperature scaling, alone and in an ensemble, against independent optimisers."""

import numpy as np
import pytest
from draws import draw, nll
from scipy.optimize import minimize, minimize_scalar
from scipy.special import softmax

from labelsmooth.calibrate import EnsembleTemperatureScaling, TemperatureScaling


@pytest.mark.parametrize("true", [0.02, 0.1, 0.4, 1.0, 1.7, 5.0, 20.0, 50.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("prior", [0.0, 4.0, 400.0])
def test_temperature_is_the_minimiser(true, dtype, prior):
    z, y = draw()
    z = (z * true).astype(dtype)
    fitted = TemperatureScaling(prior=prior).fit(z, y)
    exact = z.astype(np.float64)
    oracle = minimize_scalar(
        lambda t: nll(exact / np.exp(t), y) + prior * t**2 / (2 * len(y)),
        bracket=(np.log(true) - 1, np.log(true) + 1),
        tol=1e-12,
    )
    assert fitted.temperature_ == pytest.approx(np.exp(oracle.x), rel=1e-6 if dtype == np.float64 else 1e-5)
    assert prior > 4 or fitted.temperature_ == pytest.approx(true, rel=0.15)
    assert fitted.n_iter_ < 20


@pytest.mark.parametrize("true", [0.1, 0.4, 1.0, 1.7, 5.0, 20.0])
def test_many_rows_are_read_once(true):
    """A fit to few rows comes close enough for one step of third order over all of them."""
    rng = np.random.default_rng(3)
    z = 2.0 * rng.normal(size=(24_000, 6))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    fitted = TemperatureScaling().fit((true * z).astype(np.float32), y)
    assert fitted.n_iter_ <= 2
    assert not fitted.at_bound_
    beta = 1.0 / fitted.temperature_
    scaled = true * beta * z
    p = np.exp(scaled - scaled.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mean = (p * z).sum(1)
    slope = (mean - z[np.arange(len(y)), y]).mean() + 4.0 * np.log(beta) / (true * beta * len(y))
    curvature = ((p * z**2).sum(1) - mean**2).mean()
    assert abs(slope / curvature) < 1e-6 * true * beta  # the step that Newton's method would still take


def test_temperature_with_weights_is_the_weighted_minimiser():
    z, y = draw()
    w = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = TemperatureScaling().fit(z, y, sample_weight=w).temperature_
    assert weighted == pytest.approx(
        TemperatureScaling().fit(np.repeat(z, w, 0), np.repeat(y, w)).temperature_, rel=1e-9
    )


@pytest.mark.filterwarnings("error")
def test_temperature_never_leaves_its_bounds():
    z = np.array([[3.0, 0.0], [0.0, 3.0]])
    likelihood = TemperatureScaling(prior=0)
    with pytest.warns(UserWarning, match="No row is misclassified"):
        assert likelihood.fit(z, np.array([0, 1])).temperature_ == 1e-3
    assert likelihood.at_bound_
    with pytest.warns(UserWarning, match="do not point to the labels"):
        assert TemperatureScaling(0, bounds=(0.1, 40.0)).fit(z, np.array([1, 0])).temperature_ == 40.0
    with pytest.warns(UserWarning, match="same for every class"):
        assert likelihood.fit(np.ones((3, 4)), np.array([0, 1, 2])).temperature_ == 1.0
    z, y = draw()
    with pytest.warns(UserWarning, match="below the bounds"):
        assert TemperatureScaling(bounds=(0.5, 2.0)).fit(z / 10, y).temperature_ == 0.5
    with pytest.warns(UserWarning, match="above the bounds"):
        assert TemperatureScaling(bounds=(0.5, 2.0)).fit(z * 10, y).temperature_ == 2.0
    with pytest.raises(ValueError, match="bounds must be"):
        TemperatureScaling(bounds=(0.0, 2.0)).fit(z, y)
    with pytest.raises(ValueError, match="prior must be"):
        TemperatureScaling(prior=-1.0).fit(z, y)


@pytest.mark.parametrize("rows", [2, 24, 3000])
def test_the_prior_keeps_separable_data_finite(rows):
    z = np.eye(3)[np.arange(rows) % 3] * np.random.default_rng(0).uniform(1.0, 5.0, (rows, 1))
    with pytest.warns(UserWarning, match="No row is misclassified"):
        fitted = TemperatureScaling().fit(z, z.argmax(1))
    oracle = minimize_scalar(
        lambda t: rows * nll(z / np.exp(t), z.argmax(1)) + 2.0 * t**2, bounds=(-5, 1), method="bounded"
    )
    assert np.log(fitted.temperature_) == pytest.approx(oracle.x, abs=1e-4)
    assert not fitted.at_bound_


def test_the_prior_says_when_the_data_say_nothing():
    with pytest.warns(UserWarning, match="same for every class"):
        flat = TemperatureScaling().fit(np.ones((3, 4)), np.array([0, 1, 2]))
    assert flat.temperature_ == pytest.approx(1.0)
    z, y = draw()
    with pytest.warns(UserWarning, match="do not point to the labels"):
        assert TemperatureScaling().fit(-z, y).temperature_ > 20


def test_the_prior_weighs_the_same_on_many_rows():
    """Rough fits to a part of many rows weigh the prior by that part."""
    z, y = draw(n=24_000)
    one = TemperatureScaling(prior=1000.0).fit(3 * z, y)
    oracle = minimize_scalar(
        lambda t: nll(3 * z / np.exp(t), y) + 1000.0 * t**2 / (2 * len(y)), bracket=(0, 2), tol=1e-10
    )
    assert one.temperature_ == pytest.approx(np.exp(oracle.x), rel=1e-6)
    assert one.n_iter_ <= 2


def test_temperature_ignores_masked_classes_and_shifts():
    z, y = draw()
    expected = TemperatureScaling().fit(z, y).temperature_
    masked = np.concatenate([z, np.full((len(z), 2), -np.inf)], axis=1)
    assert TemperatureScaling().fit(masked, y).temperature_ == pytest.approx(expected, rel=1e-9)
    shifted = z + 1e4 * np.random.default_rng(0).normal(size=(len(z), 1))
    assert TemperatureScaling().fit(shifted, y).temperature_ == pytest.approx(expected, rel=1e-7)
    p = TemperatureScaling().fit(masked, y).predict_proba(masked)
    assert (p[:, 5:] == 0).all()


def test_transform_and_probabilities_agree():
    z, y = draw()
    fitted = TemperatureScaling().fit(z, y)
    assert fitted.predict_proba(z) == pytest.approx(softmax(fitted.transform(z), axis=1), abs=1e-12)
    assert fitted.transform(z) == pytest.approx(z / fitted.temperature_)


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
