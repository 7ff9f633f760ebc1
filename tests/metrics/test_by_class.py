"""Each class by itself: against scikit-learn and SciPy, and its paired differences against McNemar and Holm."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import precision_score, recall_score

from labelsmooth import metrics
from labelsmooth.metrics import Interval

SETTINGS = Interval(resamples=100)


def test_precision_and_recall_are_scikit_learns_with_exact_intervals(sample):
    p, y = sample(n=300)
    classes = metrics.per_class(p, y, interval=SETTINGS)
    precision, recall = (score(y, p.argmax(1), average=None) for score in (precision_score, recall_score))
    for k, of_class in enumerate(classes):
        assert (of_class.label, of_class.labelled, of_class.predicted) == (k, (y == k).sum(), (p.argmax(1) == k).sum())
        assert (of_class.precision.value, of_class.recall.value) == pytest.approx((precision[k], recall[k]))
        right = int(((p.argmax(1) == k) & (y == k)).sum())
        exact = binomtest(right, of_class.labelled).proportion_ci(0.95)
        assert (of_class.recall.low, of_class.recall.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
        assert of_class.gap.value == pytest.approx(p[:, k].mean() - (y == k).mean(), abs=1e-12)
        assert of_class.gap.low < of_class.gap.value < of_class.gap.high
        assert of_class.ece == metrics.ece(p, y, scope=k, interval=SETTINGS)


def test_a_class_without_examples_is_unknown():
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    missing = metrics.per_class(p, np.array([0, 1]), interval=SETTINGS)[2]
    assert np.isnan(missing.recall.value)
    assert (missing.recall.low, missing.recall.high) == (0.0, 1.0)


def test_classes_are_compared_in_pairs_and_corrected_for_their_number(sample):
    p, y = sample(n=1500, k=4)
    q = p.copy()
    q[:, 1] = 0.0  # never says class 1
    q /= q.sum(1, keepdims=True)
    differences = metrics.compare_classes(p, q, y, interval=SETTINGS)
    raw = []
    for k, difference in enumerate(differences):
        chosen = y == k
        first, second = (t.argmax(1)[chosen] != k for t in (p, q))
        assert difference.value == pytest.approx(first.mean() - second.mean())
        only = (first & ~second).sum(), (second & ~first).sum()
        raw.append(binomtest(min(only), sum(only)).pvalue if sum(only) else 1.0)
    order = np.argsort(raw)
    adjusted = np.minimum(np.maximum.accumulate(np.array(raw)[order] * np.arange(4, 0, -1)), 1.0)
    assert [differences[k].p_value for k in order] == pytest.approx(adjusted.tolist())
    assert differences[1].verdict == "lower"
