"""Counts by class and thresholds of a binary classifier, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from labelsmooth import metrics


def test_recall_precision_and_confidence_of_each_class(sample):
    p, y = sample(n=500)
    counts = metrics.class_counts(p, y)
    predicted = p.argmax(1)
    np.testing.assert_allclose(np.divide(counts.correct, counts.labelled), recall_score(y, predicted, average=None))
    np.testing.assert_allclose(np.divide(counts.correct, counts.predicted), precision_score(y, predicted, average=None))
    means = [p.max(1)[predicted == k].mean() for k in range(5)]
    np.testing.assert_allclose(np.divide(counts.confidence, counts.predicted), means)


def test_counts_of_parts_add_up(sample):
    p, y = sample(n=300)
    whole, parts = (
        metrics.class_counts(p, y),
        metrics.class_counts(p[:100], y[:100]) + metrics.class_counts(p[100:], y[100:]),
    )
    assert parts.labelled == whole.labelled
    assert parts.correct == whole.correct
    np.testing.assert_allclose(parts.confidence, whole.confidence)
    binary = (y == 0).astype(int)
    first, rest = metrics.binary_counts(p[:100, 0], binary[:100]), metrics.binary_counts(p[100:, 0], binary[100:])
    assert first + rest == metrics.binary_counts(p[:, 0], binary)


@pytest.mark.parametrize("form", ["one column", "two columns", "logits"])
def test_the_curve_of_thresholds_is_scikit_learns(sample, form):
    p, y = sample(n=2000)
    p, y = p[:, 0].clip(1e-6, 1 - 1e-6), (y == 0).astype(int)
    odds = np.log(p / (1 - p))
    scores = {"one column": {"probabilities": p}, "two columns": {"probabilities": np.stack([1 - p, p], 1)}}
    counts = metrics.binary_counts(labels=y, **scores.get(form, {"logits": odds}))
    curve = metrics.threshold_curve(counts)
    assert curve.auroc == pytest.approx(roc_auc_score(y, p), abs=1e-3)
    assert 0.5 in curve.threshold
    for k in range(850, 1400, 50):
        positive = p >= curve.threshold[k]
        assert curve.recall[k] == pytest.approx(recall_score(y, positive))
        assert curve.precision[k] == pytest.approx(precision_score(y, positive))
        assert curve.false_positive_rate[k] == pytest.approx(positive[y == 0].mean())


def test_certain_predictions_have_a_cell():
    counts = metrics.binary_counts(np.array([0.0, 1.0, 1.0]), np.array([0, 1, 0]))
    assert (counts.negative[0], counts.negative[-1], counts.positive[-1]) == (1, 1, 1)


def test_what_has_no_thresholds_is_refused():
    with pytest.raises(ValueError, match="3 classes"):
        metrics.binary_counts(np.full((2, 3), 1 / 3), np.array([0, 1]))
    with pytest.raises(ValueError, match="all the same"):
        metrics.threshold_curve(metrics.binary_counts(np.array([0.2, 0.8]), np.array([1, 1])))
