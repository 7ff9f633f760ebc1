"""A classifier and a calibrator as one scikit-learn estimator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator

from labelsmooth.calibrate import TemperatureScaling, VectorScaling
from labelsmooth.interop.sklearn import CalibratedClassifier

X, NUMBERS = make_classification(300, n_informative=6, n_classes=3, flip_y=0.2, random_state=0)
Y = np.array(["ant", "bee", "cat"])[NUMBERS]


def test_scikit_learns_own_checks() -> None:
    """All of them but the one of arrays of other libraries, which scikit-learn itself makes optional."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks fit on tiny samples
        results = check_estimator(CalibratedClassifier(cv=3), on_skip=None)
    passed = {result["check_name"] for result in results if result["status"] == "passed"}
    assert len(passed) > 50
    assert {result["check_name"] for result in results} - passed == {"check_array_api_input"}


@pytest.mark.parametrize("method", ["decision_function", "predict_proba"])
def test_the_calibrator_is_fitted_on_held_out_scores(method: str) -> None:
    estimator, name = {
        "decision_function": (LinearSVC(random_state=0), "logits"),
        "predict_proba": (GaussianNB(), "probabilities"),
    }[method]
    folds = StratifiedKFold(4)
    held_out = cross_val_predict(clone(estimator), X, Y, cv=folds, method=method)
    calibrator = VectorScaling().fit(labels=NUMBERS, **{name: held_out})
    expected = calibrator.predict_proba(**{name: getattr(clone(estimator).fit(X, Y), method)(X)})
    model = CalibratedClassifier(estimator, VectorScaling(), cv=4).fit(X, Y)
    np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-6)
    np.testing.assert_array_equal(model.predict(X), model.classes_[expected.argmax(1)])


def test_a_fitted_classifier_stays_as_it_is() -> None:
    fitted = LogisticRegression().fit(X[:200], Y[:200])
    model = CalibratedClassifier(FrozenEstimator(fitted)).fit(X[200:], Y[200:])
    expected = TemperatureScaling().fit(fitted.decision_function(X[200:]), NUMBERS[200:])
    assert model.calibrator_.temperature_ == expected.temperature_
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
    with pytest.raises(ValueError, match="'dog', which is none of the classes"):
        model.fit(X[200:], np.where(Y[200:] == "ant", "dog", Y[200:]))


def test_it_agrees_with_scikit_learns_temperature() -> None:
    """Its prior aside, the same number from the same held-out scores, with two classes too."""
    for rows in (NUMBERS >= 0, NUMBERS > 0):
        ours = CalibratedClassifier(LogisticRegression(C=1e3), TemperatureScaling(prior=0)).fit(X[rows], Y[rows])
        theirs = CalibratedClassifierCV(LogisticRegression(C=1e3), method="temperature", ensemble=False)
        theirs.fit(X[rows], Y[rows])
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=2e-3)


def test_in_a_pipeline_in_cross_validation_and_in_a_search() -> None:
    model = make_pipeline(StandardScaler(), CalibratedClassifier(RandomForestClassifier(20, random_state=0)))
    assert cross_val_score(model, X, Y, cv=3, scoring="neg_log_loss").min() > -np.log(3)
    names = {"calibratedclassifier__calibrator": [TemperatureScaling(), VectorScaling(), "platt"]}
    search = GridSearchCV(make_pipeline(StandardScaler(), CalibratedClassifier()), names, cv=3, scoring="neg_log_loss")
    assert search.fit(X, Y).cv_results_["mean_test_score"].min() > -np.log(3)
    with pytest.raises(ValueError, match="'temprature' is not a calibrator"):
        CalibratedClassifier(calibrator="temprature").fit(X, Y)


def test_the_zeros_of_a_small_forest_are_not_taken_for_the_machine_epsilon() -> None:
    digits, labels = load_digits(return_X_y=True)
    forest = RandomForestClassifier(10, random_state=0)
    model = CalibratedClassifier(forest).fit(digits[:900], labels[:900])
    assert log_loss(labels[900:], model.predict_proba(digits[900:])) < 0.45  # 0.63 with zeros at the epsilon


def test_a_calibrator_alone_is_an_estimator_of_logits() -> None:
    logits = 5 * cross_val_predict(LogisticRegression(), X, Y, method="decision_function")
    p = cross_val_predict(TemperatureScaling(), logits, NUMBERS, cv=3, method="predict_proba")
    assert log_loss(NUMBERS, p) < log_loss(
        NUMBERS, TemperatureScaling(prior=1e9).fit(logits, NUMBERS).predict_proba(logits)
    )
    search = GridSearchCV(TemperatureScaling(), {"prior": [0.0, 4.0]}, cv=3, scoring="neg_log_loss")
    assert search.fit(logits, NUMBERS).best_params_["prior"] in (0.0, 4.0)


@pytest.mark.parametrize(
    ("cv", "labels", "message"),
    [
        (5, np.array(["ant"] * 297 + ["bee"] * 3), "the class bee has 3 rows .* fewer than cv=5"),
        (5, np.array(["ant"] * 300), "1 class"),
    ],
)
def test_labels_that_cannot_be_fitted_raise(cv: Any, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CalibratedClassifier(cv=cv).fit(X, labels)


class _Broken(GaussianNB):
    def predict_proba(self, X: Any) -> Any:
        return np.where(np.arange(3) == 0, np.nan, super().predict_proba(X))


def test_probabilities_that_are_nan_are_refused_and_not_read_as_0() -> None:
    with pytest.raises(ValueError, match="class 0 is nan"):
        CalibratedClassifier(_Broken()).fit(X, Y)
