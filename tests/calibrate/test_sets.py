"""Prediction sets: coverage by simulation, and the sets of another library."""

import numpy as np
import pytest
import torch
from draws import draw
from mapie.classification import SplitConformalClassifier
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from labelsmooth.calibrate import NotFittedError, PredictionSets
from labelsmooth.errors import UserError

METHODS = ("lac", "aps", "raps")


class Softmax(ClassifierMixin, BaseEstimator):
    """A classifier whose features are its logits."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.n_features_in_ = x.shape[1]
        return self

    def predict_proba(self, x):
        return softmax(x, axis=1)

    def predict(self, x):
        return x.argmax(1)


@pytest.mark.parametrize("rows", [99, 100, 500])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_lac_sets_are_mapies(rows, alpha):
    z, y = draw(n=rows, k=5)
    test = draw(n=300, k=5, seed=1)[0]
    model = Softmax().fit(z, y)
    theirs = SplitConformalClassifier(model, confidence_level=1 - alpha, conformity_score="lac", prefit=True)
    _, expected = theirs.conformalize(z, y).predict_set(test)
    assert (PredictionSets(alpha, empty=True).fit(z, y).predict(test) == expected[:, :, 0]).all()


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_scores_add_up_the_more_probable_classes(method):
    z, y = draw(n=200, k=6)
    sets = PredictionSets(0.2, method, penalty=0.1, allowed=2, empty=True).fit(z, y)
    p = softmax(z, axis=1)
    larger = (p[:, None, :] > p[:, :, None]).sum(2)
    scores = np.array([[p[i][p[i] >= p[i, k]].sum() for k in range(6)] for i in range(200)])
    scores += 0.1 * np.maximum(larger + 1 - 2, 0) if method == "raps" else 0
    threshold = np.sort(scores[np.arange(200), y])[int(np.ceil(201 * 0.8)) - 1]
    assert sets.threshold_ == pytest.approx(threshold)
    assert (sets.predict(z) == (scores <= threshold + 1e-12)).all()


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_sets_without_empty_ones_have_the_sum_above_each_class(method):
    z, y = draw(n=200, k=6)
    sets = PredictionSets(0.2, method, penalty=0.1, allowed=2).fit(z, y)
    p = softmax(z, axis=1)
    larger = p[:, None, :] > p[:, :, None]
    scores = (larger * p[:, None, :]).sum(2)
    scores += 0.1 * np.maximum(larger.sum(2) + 1 - 2, 0) if method == "raps" else 0
    threshold = np.sort(scores[np.arange(200), y])[int(np.ceil(201 * 0.8)) - 1]
    assert sets.threshold_ == pytest.approx(threshold, abs=1e-12)
    assert (sets.predict(z) == (scores <= threshold + 1e-12)).all()


@pytest.mark.parametrize("method", METHODS)
def test_an_accurate_model_is_not_covered_far_beyond_the_promise(method):
    """Sums that include the class itself hold the label in 99% here, with three times as many classes."""
    rng = np.random.default_rng(0)
    z = 10.0 * rng.normal(size=(20_000, 10))
    y = (z + rng.gumbel(size=z.shape)).argmax(1)
    summary = PredictionSets(0.1, method).fit(z[:10_000], y[:10_000]).summary(z[10_000:], y[10_000:])
    assert 0.885 < summary.coverage < 0.915
    assert summary.size < 1.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("slope", [1.0, 3.0])
def test_coverage_is_what_is_promised(method, slope):
    """Over calibration and test rows together, for a calibrated and an over-confident model."""
    rng = np.random.default_rng(0)
    alpha, n, repeats = 0.1, 50, 400
    covered = []
    for _ in range(repeats):
        z = 1.5 * rng.normal(size=(n + 50, 4))
        y = (z + rng.gumbel(size=z.shape)).argmax(1)
        sets = PredictionSets(alpha, method, empty=True).fit(slope * z[:n], y[:n])
        covered.append(sets.summary(slope * z[n:], y[n:]).coverage)
    error = np.std(covered) / repeats**0.5
    assert 1 - alpha - 3 * error < np.mean(covered) < 1 - alpha + 1 / (n + 1) + 3 * error


def test_each_class_is_covered_where_it_is_asked():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(20_000, 3))
    y = (z * [0.3, 1.0, 3.0] + rng.gumbel(size=z.shape)).argmax(1)
    marginal = PredictionSets(0.1).fit(z[:10_000], y[:10_000]).summary(z[10_000:], y[10_000:])
    by_class = PredictionSets(0.1, per_class=True).fit(z[:10_000], y[:10_000]).summary(z[10_000:], y[10_000:])
    assert marginal.coverage == pytest.approx(0.9, abs=0.015)
    assert np.ptp(marginal.class_coverage) > 0.04
    assert by_class.class_coverage == pytest.approx(0.9, abs=0.02)


def test_too_few_rows_give_full_sets_and_a_warning():
    z, y = draw(n=8, k=3)
    with pytest.warns(UserWarning, match=r"alpha=0\.1 needs at least 9 rows; with fewer, every class is in every set"):
        assert PredictionSets(0.1).fit(z, y).predict(z).all()
    z, y = draw(n=400, k=3)
    y[y == 2] = 1
    with pytest.warns(UserWarning, match=r"of each class; with fewer, class 2 is in every set \(1 of 3 classes\)"):
        sets = PredictionSets(0.1, per_class=True).fit(z, y)
    assert sets.predict(z)[:, 2].all()
    assert np.isnan(sets.summary(z, y).class_coverage[2])


def test_no_set_is_empty_unless_asked():
    z, y = draw(n=500, k=3)
    sure = 20 * z
    open_sets = PredictionSets(0.6, "aps", empty=True).fit(z, y)
    assert open_sets.summary(sure, y).empty > 0.5
    closed = PredictionSets(0.6, "aps").fit(z, y).predict(sure)
    assert closed.any(axis=1).all()
    assert closed[np.arange(500), sure.argmax(1)].all()


def test_probabilities_tensors_and_wrong_arguments():
    z, y = draw(n=300, k=3)
    sets = PredictionSets().fit(z, y)
    assert (PredictionSets().fit(probabilities=softmax(z, axis=1), labels=y).predict(z) == sets.predict(z)).all()
    assert (PredictionSets().fit(torch.from_numpy(z), torch.from_numpy(y)).predict(z) == sets.predict(z)).all()
    assert repr(sets) == "PredictionSets(alpha=0.1, method='lac', per_class=False)"
    with pytest.raises(NotFittedError, match="call fit"):
        PredictionSets().predict(z)
    with pytest.raises(ValueError, match="have 2 classes, but the sets were fitted on 3"):
        sets.predict(z[:, :2])
    for arguments in ({"alpha": 0.0}, {"alpha": 1.0}, {"method": "top"}, {"penalty": -1.0}):
        with pytest.raises(ValueError, match="must be"):
            PredictionSets(**arguments)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("per_class", [False, True])
def test_json_and_the_module_give_the_same_sets(method, per_class):
    z, y = draw(n=300, k=4)
    sets = PredictionSets(0.2, method, per_class, penalty=0.1, allowed=2).fit(z, y)
    again, z = PredictionSets.from_json(sets.to_json()), draw(n=300, k=4, seed=1)[0]
    expected = sets.predict(z)
    assert (again.predict(z) == expected).all()
    inside = again.to_module()(torch.from_numpy(softmax(z, axis=1)))
    assert (inside.numpy() == expected).all()


def test_a_class_in_every_set_stays_there_in_json_and_damaged_json_is_refused():
    z, y = draw(n=400, k=3)
    y[y == 2] = 1
    with pytest.warns(UserWarning, match="class 2 is in every set"):
        sets = PredictionSets(0.1, per_class=True).fit(z, y)
    again = PredictionSets.from_json(sets.to_json())
    assert again.threshold_[2] == np.inf
    for damaged in ("[]", "{", sets.to_json().replace("0.1", "1.5"), sets.to_json().replace("null", "NaN")):
        with pytest.raises(UserError, match="no prediction sets"):
            PredictionSets.from_json(damaged)
    with pytest.raises(NotFittedError):
        PredictionSets().to_json()
