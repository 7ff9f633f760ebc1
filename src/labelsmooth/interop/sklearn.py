"""scikit-learn: a classifier and a calibrator as one estimator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.utils import get_tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from labelsmooth.calibrate import CATALOGUE, Calibrator, Name, check_name

__all__ = ["CalibratedClassifier"]


class CalibratedClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose probabilities a calibrator of ``labelsmooth.calibrate`` corrects.

    ``fit`` predicts each row with a copy of the classifier that was not fitted on it (cross-validation), fits the
    calibrator on these scores, and the classifier on all rows.  A classifier that is fitted already, in
    ``FrozenEstimator``, stays as it is: then ``fit`` takes rows that it was not fitted on.

    Scores are those of ``decision_function``, read as logits, or of ``predict_proba`` where there is none, clipped at
    the machine epsilon as in scikit-learn, with zeros read as a tenth of the smallest other probability.

    A calibrator by itself is an estimator too, whose X is logits (N, K) and whose y is 0 ... K-1: it can be cloned,
    cross-validated and searched over.

    Args:
        estimator: a classifier; None for ``LogisticRegression()``.
        calibrator: from ``labelsmooth.calibrate``, or its name in ``calibrate.CATALOGUE``; None for ``"temperature"``.
        cv: the number of folds, at least 2 and at most the rows of the rarest class; or a splitter of scikit-learn's,
            or pairs of indices, in which each row is held out once.

    Attributes:
        classes_: (K,), the labels in the order of the columns of ``predict_proba``.
        estimator_: the fitted classifier.
        calibrator_: the fitted calibrator.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> from sklearn.svm import SVC
        >>> model = make_pipeline(StandardScaler(), CalibratedClassifier(SVC()))
        >>> model.fit(*load_iris(return_X_y=True)).predict_proba([[5.0, 3.4, 1.5, 0.2]]).round(2)
        array([[0.97, 0.03, 0.  ]])

    Source: Platt, "Probabilistic Outputs for Support Vector Machines", 1999, for the scores of held-out folds.
    """

    def __init__(self, estimator: Any = None, calibrator: Calibrator | Name | None = None, *, cv: Any = 5) -> None:
        self.estimator = estimator
        self.calibrator = calibrator
        self.cv = cv

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> CalibratedClassifier:
        """Fit the classifier, unless it is frozen, and the calibrator.

        Args:
            X: rows, as the classifier takes them.
            y: (N,) labels of any kind.
            sample_weight: (N,), for the classifier and the calibrator.

        Raises:
            ValueError: one class, a class with fewer than ``cv`` rows, or a label that is new to a frozen classifier.
        """
        validate_data(self, X, y, skip_check_array=True)
        check_classification_targets(y)
        labels = column_or_1d(y, warn=True)
        params = {} if sample_weight is None else {"sample_weight": _check_sample_weight(sample_weight, X)}
        estimator = LogisticRegression() if self.estimator is None else self.estimator
        if isinstance(estimator, FrozenEstimator):
            check_is_fitted(estimator)
            self.estimator_, self.classes_ = estimator, estimator.classes_
            if unseen := set(np.unique(labels).tolist()) - set(self.classes_.tolist()):
                raise ValueError(
                    f"y holds {min(unseen)!r}, which is none of the classes {self.classes_.tolist()} that the frozen "
                    "classifier was fitted on. Leave those rows out."
                )
            scores = _scores(estimator, X)
        else:
            self.classes_, counts = np.unique(labels, return_counts=True)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"y holds {len(self.classes_)} class, {self.classes_}; give labels of at least 2 classes."
                )
            if isinstance(self.cv, int) and counts.min() < self.cv:
                rare = int(counts.argmin())
                raise ValueError(
                    f"the class {self.classes_[rare]} has {counts[rare]} rows in the {len(labels)} samples of y, fewer "
                    f"than cv={self.cv}; give more rows, or cv={max(2, int(counts[rare]))}."
                )
            method = _method(estimator)
            held_out = cross_val_predict(clone(estimator), X, labels, cv=self.cv, method=method, params=params)
            scores = _named(method, held_out)
            self.estimator_ = clone(estimator).fit(X, labels, **params)
        given = "temperature" if self.calibrator is None else self.calibrator
        calibrator = CATALOGUE[check_name(given)].make() if isinstance(given, str) else clone(given)
        encoded = np.searchsorted(self.classes_, labels)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*probabilities are 0")  # a forest has many
            self.calibrator_ = calibrator.fit(labels=encoded, **scores, **params)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Calibrated probabilities (N, K)."""
        check_is_fitted(self)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*probabilities are 0")
            probabilities: NDArray[np.floating[Any]] = self.calibrator_.predict_proba(**_scores(self.estimator_, X))
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable label after calibration, (N,)."""
        columns = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[columns]
        return labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = get_tags(
            LogisticRegression() if self.estimator is None else self.estimator
        ).input_tags.sparse
        return tags


def _method(estimator: Any) -> str:
    return "decision_function" if hasattr(estimator, "decision_function") else "predict_proba"


def _scores(estimator: Any, X: ArrayLike) -> dict[str, NDArray[np.floating[Any]]]:
    """A classifier's scores, by the name that a calibrator takes them under."""
    method = _method(estimator)
    return _named(method, getattr(estimator, method)(X))


def _named(method: str, scores: NDArray[np.floating[Any]]) -> dict[str, NDArray[np.floating[Any]]]:
    if method == "decision_function":
        return {"logits": scores}
    # scikit-learn's losses and calibrators clip at the same number.  The 0 of a forest whose trees agree is not as
    # small as that: the calibrator reads it as a tenth of the smallest other probability.
    return {"probabilities": np.where(scores == 0, scores, scores.clip(np.finfo(scores.dtype).eps))}
