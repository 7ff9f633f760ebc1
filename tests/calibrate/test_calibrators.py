"""The calibrators: scikit-learn's conventions, the right answer, and a bounded one where there is none."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logsumexp, softmax
from sklearn.base import clone
from sklearn.calibration import _SigmoidCalibration
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import check_is_fitted

from labelsmooth.calibrate import METHODS, IsotonicCalibration, NotFittedError, PlattScaling, TemperatureScaling

CALIBRATORS = [method for name, method in METHODS.items() if name != "identity"]


def make(n=2000, k=5, seed=0, scale=1.0):
    """Logits [n, k], and labels drawn from softmax(scale * logits)."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, k))
    return z, (scale * z + rng.gumbel(size=z.shape)).argmax(1)


def nll(z, y, w=None):
    return np.average(-log_softmax(z, axis=1)[np.arange(len(y)), y], weights=w)


@pytest.mark.parametrize("true", [0.02, 0.1, 0.4, 1.0, 1.7, 5.0, 20.0, 50.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_temperature_is_the_minimiser(true, dtype):
    z, y = make()
    z = (z * true).astype(dtype)
    fitted = TemperatureScaling().fit(z, y)
    exact = z.astype(np.float64)
    oracle = minimize_scalar(
        lambda t: nll(exact / np.exp(t), y), bracket=(np.log(true) - 1, np.log(true) + 1), tol=1e-12
    )
    assert fitted.temperature_ == pytest.approx(np.exp(oracle.x), rel=1e-6 if dtype == np.float64 else 1e-5)
    assert fitted.temperature_ == pytest.approx(true, rel=0.15)
    assert fitted.n_iter_ < 20


@pytest.mark.parametrize("true", [0.1, 0.4, 1.0, 1.7, 5.0, 20.0])
def test_many_rows_are_read_once(true):
    """A fit to few rows comes close enough for one step of third order over all of them."""
    rng = np.random.default_rng(3)
    z = 2.0 * rng.normal(size=(24_000, 6))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    fitted = TemperatureScaling().fit((true * z).astype(np.float32), y)
    assert fitted.n_iter_ <= 2
    beta = 1.0 / fitted.temperature_
    scaled = true * beta * z
    p = np.exp(scaled - scaled.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    mean = (p * z).sum(1)
    slope, curvature = (mean - z[np.arange(len(y)), y]).mean(), ((p * z**2).sum(1) - mean**2).mean()
    assert abs(slope / curvature) < 1e-6 * true * beta  # the step that Newton's method would still take


def test_temperature_with_weights_is_the_weighted_minimiser():
    z, y = make()
    w = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = TemperatureScaling().fit(z, y, sample_weight=w).temperature_
    assert weighted == pytest.approx(
        TemperatureScaling().fit(np.repeat(z, w, 0), np.repeat(y, w)).temperature_, rel=1e-9
    )
    assert weighted == pytest.approx(TemperatureScaling().fit(z, y, w * 1e-6).temperature_, rel=1e-9)


@pytest.mark.filterwarnings("error")
def test_temperature_never_leaves_its_bounds():
    z = np.array([[3.0, 0.0], [0.0, 3.0]])
    with pytest.warns(UserWarning, match="separable"):
        assert TemperatureScaling().fit(z, np.array([0, 1])).temperature_ == 1e-3
    with pytest.warns(UserWarning, match="do not point to the labels"):
        assert TemperatureScaling(bounds=(0.1, 40.0)).fit(z, np.array([1, 0])).temperature_ == 40.0
    with pytest.warns(UserWarning, match="same for every class"):
        assert TemperatureScaling().fit(np.ones((3, 4)), np.array([0, 1, 2])).temperature_ == 1.0
    z, y = make()
    with pytest.warns(UserWarning, match="below the bounds"):
        assert TemperatureScaling(bounds=(0.5, 2.0)).fit(z / 10, y).temperature_ == 0.5
    with pytest.warns(UserWarning, match="above the bounds"):
        assert TemperatureScaling(bounds=(0.5, 2.0)).fit(z * 10, y).temperature_ == 2.0
    with pytest.raises(ValueError, match="bounds must be"):
        TemperatureScaling(bounds=(0.0, 2.0)).fit(z, y)


def test_temperature_ignores_masked_classes_and_shifts():
    z, y = make()
    expected = TemperatureScaling().fit(z, y).temperature_
    masked = np.concatenate([z, np.full((len(z), 2), -np.inf)], axis=1)
    assert TemperatureScaling().fit(masked, y).temperature_ == pytest.approx(expected, rel=1e-9)
    shifted = z + 1e4 * np.random.default_rng(0).normal(size=(len(z), 1))
    assert TemperatureScaling().fit(shifted, y).temperature_ == pytest.approx(expected, rel=1e-7)
    p = TemperatureScaling().fit(masked, y).predict_proba(masked)
    assert (p[:, 5:] == 0).all()


def test_transform_and_probabilities_agree():
    z, y = make()
    fitted = TemperatureScaling().fit(z, y)
    assert fitted.predict_proba(z) == pytest.approx(softmax(fitted.transform(z), axis=1), abs=1e-12)
    assert fitted.transform(z) == pytest.approx(z / fitted.temperature_)


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


def test_platt_and_isotonic_score_the_log_odds():
    z, y = make(k=4)
    odds = np.stack([z[:, k] - logsumexp(np.delete(z, k, 1), axis=1) for k in range(4)], axis=1)
    platt = PlattScaling().fit(z, y)
    expected = np.stack([_SigmoidCalibration().fit(odds[:, k], y == k).predict(odds[:, k]) for k in range(4)], axis=1)
    assert platt.predict_proba(z) == pytest.approx(expected / expected.sum(1, keepdims=True), abs=1e-4)
    isotonic = IsotonicCalibration().fit(z, y)
    steps = np.stack(
        [IsotonicRegression(out_of_bounds="clip").fit(odds[:, k], y == k).predict(odds[:, k]) for k in range(4)], axis=1
    )
    assert isotonic.predict_proba(z) == pytest.approx(steps / steps.sum(1, keepdims=True), abs=1e-9)


def test_log_odds_keep_their_digits_next_to_one():
    from labelsmooth.calibrate.scores import log_odds

    odds = log_odds(torch.tensor([[60.0, 0.0, 1.0], [-torch.inf, 0.0, 1.0], [-torch.inf, 0.0, -torch.inf]]).double())
    assert odds[0, 0] == pytest.approx(60 - np.log(1 + np.e), rel=1e-14)
    assert odds[1].tolist() == pytest.approx([-1e30, -1.0, 1.0])
    assert odds[2].tolist() == [-1e30, 1e30, -1e30]


def test_platt_is_finite_on_separable_and_constant_data():
    z, y = np.linspace(-3, 3, 20), (np.arange(20) >= 10).astype(int)
    p = PlattScaling().fit(z, y).predict_proba(z)
    assert np.isfinite(p).all()
    assert 0.0 < p.min() < 0.1
    constant = PlattScaling().fit(np.zeros(20), y).predict_proba(np.zeros(20))
    assert constant == pytest.approx(0.5, abs=1e-12)
    one_sided = PlattScaling().fit(z, np.ones(20, int)).predict_proba(z)
    assert one_sided[:, 1] == pytest.approx(21 / 22, abs=1e-6)


def test_a_row_that_every_map_rejects_becomes_uniform():
    z = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]] * 5)
    fitted = IsotonicCalibration().fit(z, np.array([0, 1, 2] * 5))
    assert fitted.predict_proba(np.zeros((1, 3))) == pytest.approx(1 / 3)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("binary", [False, True])
def test_calibration_lowers_the_nll_of_an_over_confident_model(calibrator, binary):
    z, y = make(n=4000, k=2 if binary else 5)
    test_z, test_y = make(n=4000, k=2 if binary else 5, seed=1)
    given, test = (4 * (z[:, 1] - z[:, 0]), 4 * (test_z[:, 1] - test_z[:, 0])) if binary else (4 * z, 4 * test_z)
    p = calibrator().fit(given, y).predict_proba(test)
    assert p.shape == (4000, 2 if binary else 5)
    assert p.sum(1) == pytest.approx(1.0, abs=1e-9)
    after = -np.log(np.maximum(p[np.arange(4000), test_y], 1e-4)).mean()
    assert after < nll(test_z, test_y) + 0.05
    assert after < nll(4 * test_z, test_y) - 0.1


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_torch_and_numpy_give_the_same_and_return_their_kind(calibrator):
    z, y = make()
    p = calibrator().fit(z, y).predict_proba(z)
    assert p.dtype == np.float64
    fitted = calibrator().fit(torch.from_numpy(z).requires_grad_(), torch.from_numpy(y))
    tensor = fitted.predict_proba(torch.from_numpy(z))
    assert tensor.dtype == torch.float64
    assert tensor.numpy() == pytest.approx(p, abs=1e-12)
    for dtype in (torch.float32, torch.bfloat16):
        assert fitted.predict_proba(torch.from_numpy(z).to(dtype)).dtype == dtype
    assert (fitted.predict(z) == p.argmax(1)).all()
    assert isinstance(fitted.predict(torch.from_numpy(z)), torch.Tensor)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_weights_are_repetitions(calibrator):
    z, y = make(n=300, k=3)
    w = np.random.default_rng(0).integers(1, 4, 300)
    weighted = calibrator().fit(z, y, w)
    repeated = calibrator().fit(np.repeat(z, w, 0), np.repeat(y, w))
    assert weighted.predict_proba(z) == pytest.approx(repeated.predict_proba(z), abs=1e-5)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_sklearn_conventions(calibrator):
    z, y = make(n=200)
    fitted = calibrator()
    assert fitted.fit(z, y) is fitted
    check_is_fitted(fitted)
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    with pytest.raises(SklearnNotFittedError, match="call fit"):
        fresh.predict_proba(z)
    with pytest.raises(NotFittedError):
        fresh.predict_proba(z)
    with pytest.raises(SklearnNotFittedError):
        check_is_fitted(fresh)
    assert repr(TemperatureScaling()) == "TemperatureScaling(bounds=(0.001, 1000.0))"
    assert TemperatureScaling().set_params(bounds=(0.5, 2.0)).bounds == (0.5, 2.0)
    with pytest.raises(ValueError, match="no parameter 'lower'"):
        TemperatureScaling().set_params(lower=1)


@pytest.mark.parametrize(
    ("logits", "labels", "weight", "words"),
    [
        ([[1.0, np.nan]], [0], None, "logits: row 0"),
        ([[1.0, 2.0]], [2], None, "row 0 is 2, outside 0 to 1"),
        ([[1.0, 2.0]], [0, 1], None, r"1 rows of logits need \(1,\)"),
        ([[1.0]], [0], None, "K of at least 2"),
        (np.zeros((0, 3)), np.zeros(0, int), None, "empty"),
        ([[1.0, -np.inf]], [1], None, "row 0 is class 1, whose logit is -inf"),
        ([[1.0, 2.0]], [0], [-1.0], "row 0 is -1"),
        ([[1.0, 2.0]], [0], [0.0], "nothing to learn"),
        ([[1.0, 2.0]], [0], [1.0, 2.0], r"sample_weight has shape \(2,\)"),
    ],
)
def test_bad_input_is_a_sentence(logits, labels, weight, words):
    with pytest.raises(ValueError, match=words):
        TemperatureScaling().fit(np.asarray(logits), np.asarray(labels), None if weight is None else np.asarray(weight))


def test_another_number_of_classes_is_refused():
    z, y = make()
    with pytest.raises(ValueError, match="4 classes, but this TemperatureScaling was fitted on 5"):
        TemperatureScaling().fit(z, y).predict_proba(z[:, :4])
