"""What holds for every calibrator: scikit-learn's conventions, types, weights, and errors for wrong inputs."""

import warnings

import numpy as np
import pytest
import torch
from draws import draw, nll
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.utils.validation import check_is_fitted

from labelsmooth.calibrate import (
    CATALOGUE,
    BetaCalibration,
    DirichletCalibration,
    MatrixScaling,
    NotFittedError,
    PlattScaling,
    TemperatureScaling,
    VectorScaling,
    best,
    load,
    save,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*each class is fitted on its own")
CALIBRATORS = [entry.make for entry in CATALOGUE.values() if entry.name != "identity"]


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("binary", [False, True])
def test_calibration_lowers_the_nll_of_an_over_confident_model(calibrator, binary):
    z, y = draw(n=4000, k=2 if binary else 5)
    test_z, test_y = draw(n=4000, k=2 if binary else 5, seed=1)
    given, test = (4 * (z[:, 1] - z[:, 0]), 4 * (test_z[:, 1] - test_z[:, 0])) if binary else (4 * z, 4 * test_z)
    p = calibrator().fit(given, y).predict_proba(test)
    assert p.shape == (4000, 2 if binary else 5)
    assert p.sum(1) == pytest.approx(1.0, abs=1e-9)
    after = -np.log(np.maximum(p[np.arange(4000), test_y], 1e-4)).mean()
    assert after < nll(test_z, test_y) + 0.05
    assert after < nll(4 * test_z, test_y) - 0.1


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_torch_and_numpy_give_the_same_and_return_their_kind(calibrator):
    z, y = draw()
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
    z, y = draw(n=300, k=3)
    w = np.random.default_rng(0).integers(1, 4, 300)
    weighted = calibrator().fit(z, y, w)
    repeated = calibrator().fit(np.repeat(z, w, 0), np.repeat(y, w))
    assert weighted.predict_proba(z) == pytest.approx(repeated.predict_proba(z), abs=1e-5)


@pytest.mark.parametrize("calibrator", [VectorScaling, MatrixScaling, DirichletCalibration, BetaCalibration])
def test_separable_data_and_an_absent_class_stay_finite(calibrator):
    z = np.repeat(3 * np.eye(4), 10, axis=0)[:30]
    fitted = calibrator().fit(z, np.repeat(np.arange(3), 10))
    assert np.isfinite(fitted.transform(z)).all()
    assert nll(fitted.transform(z), np.repeat(np.arange(3), 10)) < nll(z, np.repeat(np.arange(3), 10))


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_sklearn_conventions(calibrator):
    z, y = draw(n=200)
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
    assert TemperatureScaling().set_params(bounds=(0.5, 2.0)).bounds == (0.5, 2.0)
    with pytest.raises(ValueError, match="no parameter 'lower'"):
        TemperatureScaling().set_params(lower=1)


@pytest.mark.parametrize(
    ("logits", "labels", "weight", "words"),
    [
        ([[1.0, np.nan]], [0], None, "logits: row 0"),
        ([[1.0, 2.0]], [2], None, "row 0 is 2, outside 0 to 1"),
        ([[1.0, 2.0]], [0, 1], None, r"1 rows of scores need \(1,\)"),
        ([[1.0]], [0], None, "K of at least 2"),
        (np.zeros((0, 3)), np.zeros(0, int), None, "empty"),
        ([[1.0, -np.inf]], [1], None, "row 0 is class 1, whose logit is -inf"),
        ([[1.0, 2.0]], [0], [-1.0], "row 0 is -1"),
        ([[1.0, 2.0]], [0], [0.0], "nothing to fit"),
        ([[1.0, 2.0]], [0], [1.0, 2.0], r"sample_weight has shape \(2,\)"),
    ],
)
def test_bad_input_is_refused(logits, labels, weight, words):
    with pytest.raises(ValueError, match=words):
        TemperatureScaling().fit(np.asarray(logits), np.asarray(labels), None if weight is None else np.asarray(weight))


@pytest.mark.parametrize("values", [[True, False, True], [1, 0, 1]])
def test_probabilities_that_are_not_floating_are_refused(values):
    with pytest.raises(TypeError, match="probabilities must be floating point"):
        TemperatureScaling().fit(probabilities=np.array(values), labels=np.array([1, 0, 1]))


def test_another_number_of_classes_is_refused():
    z, y = draw()
    with pytest.raises(ValueError, match="4 classes, but this TemperatureScaling was fitted on 5"):
        TemperatureScaling().fit(z, y).predict_proba(z[:, :4])


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("k", [2, 4])
def test_the_layer_is_the_calibrator(name, k):
    z, y = draw(1500, k)
    fitted = CATALOGUE[name].make().fit(z, y)
    layer = fitted.to_module()
    x = torch.from_numpy(z)
    assert torch.softmax(layer(x), 1).numpy() == pytest.approx(fitted.predict_proba(z), abs=1e-12)
    assert layer(x.float()).dtype == torch.float32
    twin = CATALOGUE[name].make().fit(*draw(1500, k)).to_module()
    twin.load_state_dict(layer.state_dict())
    assert not list(layer.parameters())
    with pytest.raises(ValueError, match="must have shape"):
        layer(x[0])


def test_reprs_are_short():
    z, y = draw(20_000)
    assert repr(TemperatureScaling()) == "TemperatureScaling()"
    assert repr(TemperatureScaling(bounds=(0.5, 2.0))) == "TemperatureScaling(bounds=(0.5, 2.0))"
    assert repr(TemperatureScaling().fit(2 * z, y)) == "TemperatureScaling(temperature=2)"
    assert repr(PlattScaling().fit(z, y)) == "PlattScaling(n_classes=5)"


@pytest.mark.parametrize("calibrator", CALIBRATORS)
@pytest.mark.parametrize("binary", [False, True])
def test_probabilities_are_read_as_their_logarithms(calibrator, binary):
    z, y = draw(k=2 if binary else 4)
    logits, p = (z[:, 1] - z[:, 0], softmax(z, axis=1)[:, 1]) if binary else (z, softmax(z, axis=1))
    by_logits = calibrator().fit(log_softmax(z, axis=1), y)
    by_probabilities = calibrator().fit(probabilities=p, labels=y)
    expected = by_logits.predict_proba(log_softmax(z, axis=1))
    assert by_probabilities.predict_proba(probabilities=p) == pytest.approx(expected, abs=1e-9)
    assert by_probabilities.predict(probabilities=p).shape == (2000,)
    with pytest.raises(ValueError, match="Pass probabilities as probabilities="):
        calibrator().fit(p, y)
    with pytest.raises(ValueError, match="pass them as logits="):
        calibrator().fit(probabilities=logits, labels=y)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_of_zero_are_clipped_and_said(entry, dtype):
    z, y = draw(k=3)
    p = softmax(z, axis=1)
    p[:5] = np.eye(3)[(y[:5] + 1) % 3]  # a label of probability 0
    with pytest.warns(
        UserWarning, match=r"10 of 6000 probabilities are 0; they are read as .*, a tenth of the smallest other"
    ):
        fitted = entry.make().fit(probabilities=p.astype(dtype), labels=y)
    with pytest.warns(UserWarning, match="probabilities are 0"):
        assert np.isfinite(fitted.predict_proba(probabilities=p.astype(dtype))).all()
    with pytest.raises(ValueError, match="pass the probabilities as probabilities="), np.errstate(divide="ignore"):
        entry.make().fit(np.log(p), y)


def test_probabilities_with_three_digits_are_accepted():
    z, y = draw(k=5)
    rounded = softmax(z, axis=1).round(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zeros
        fitted = TemperatureScaling().fit(probabilities=rounded, labels=y)
    assert fitted.temperature_ == pytest.approx(TemperatureScaling().fit(z, y).temperature_, rel=0.02)


@pytest.mark.filterwarnings("ignore:.*probabilities are 0", "ignore:.*rounded to 3 decimals")
@pytest.mark.parametrize("classes", [2, 37])
def test_zeros_of_rounded_probabilities_do_not_determine_the_temperature(classes, tmp_path):
    z, y = draw(k=classes)
    z = 2 * z  # of 37 classes half of the rounded probabilities are 0
    rounded = softmax(z, axis=1).round(3)
    p = rounded[:, 1] if classes == 2 else rounded
    exact = TemperatureScaling().fit(z, y)
    for fitted in (
        TemperatureScaling().fit(probabilities=p, labels=y),
        best(probabilities=p, labels=y, candidates=["temperature"]).calibrator,
    ):
        assert fitted.temperature_ == pytest.approx(exact.temperature_, rel=0.25)
        together = fitted.predict_proba(probabilities=p)
        save(fitted, tmp_path / "calibrator.json", overwrite=True)
        alone = [load(tmp_path / "calibrator.json").predict_proba(probabilities=p[i : i + 1])[0] for i in range(50)]
        assert together[:50] == pytest.approx(np.array(alone), abs=1e-4)  # a row alone is not divided by its sum


def test_scores_are_logits_or_probabilities():
    z, y = draw()
    with pytest.raises(ValueError, match="either logits or probabilities"):
        TemperatureScaling().fit(labels=y)
    with pytest.raises(ValueError, match="not both"):
        TemperatureScaling().fit(z, y, probabilities=softmax(z, axis=1))
    with pytest.raises(TypeError, match="labels are missing"):
        TemperatureScaling().fit(z)
    p = np.tile([0.5, 0.5, 0, 0, 0], (10, 1))
    p[7, 2] = -1
    with pytest.raises(ValueError, match=r"row 7, class 2 is -1, outside \[0, 1\]"):
        TemperatureScaling().fit(probabilities=p, labels=y[:10])
    with pytest.raises(ValueError, match=r"row 0 sums to 0\.9, not 1"):
        TemperatureScaling().fit(probabilities=np.full((3, 3), 0.3), labels=np.arange(3))


@pytest.mark.filterwarnings("ignore:.*probabilities are 0", "ignore:.*each class is fitted on its own")
@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
def test_no_calibrated_probability_is_zero(entry):
    """A forest seldom gives a label 0: where the fit sees none of these, T is below 1, and one had an infinite NLL."""
    votes = np.random.default_rng(0).multinomial(20, [0.6, 0.3, 0.1], 200) / 20
    y = np.where(np.arange(200) % 10 < 9, votes.argmax(1), votes.argsort(1)[:, 1])
    calibrator = entry.make().fit(probabilities=votes, labels=y)
    assert calibrator.predict_proba(probabilities=np.array([[0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])).min() > 0


def test_weights_that_sum_to_little_are_noticed():
    z, y = draw()
    with pytest.warns(UserWarning, match="sums to 1 over 2000 rows"):
        VectorScaling().fit(z, y, np.full(2000, 1 / 2000))


def test_too_few_rows_are_said():
    y = np.repeat(np.arange(3), [200, 60, 20])
    z = np.random.default_rng(0).normal(size=(280, 3))
    needed = {entry.name: entry.make().too_few_rows(y, 3) for entry in CATALOGUE.values()}
    short = {name: problem for name, problem in needed.items() if problem}
    assert set(short) == {"platt", "histogram", "isotonic"}
    assert "at least 50 rows of it and of the others: 1 of 3 classes have fewer (class 2: 20 of" in short["platt"]
    assert "at least 100 rows of it and of the others: 3 of 3 classes have fewer" in short["histogram"]
    with pytest.warns(
        UserWarning, match=r"Too few rows: each class is fitted .* rows\)\. Use .*, such as temperature\."
    ):
        PlattScaling().fit(z, y)
    assert PlattScaling().too_few_rows(np.repeat([0, 1], [49, 1000]), 2)
    assert not PlattScaling().too_few_rows(np.repeat([0, 1], [50, 1000]), 2)
    top_label = CATALOGUE["isotonic"].make(scope="top-label")
    assert top_label.too_few_rows(y, 3) is None
    assert "takes 50 rows, not 49" in top_label.too_few_rows(y[:49], 3)
