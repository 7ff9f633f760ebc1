"""Selective prediction: risk at a coverage, areas under the curves and confidence scores, against the definitions."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from labelsmooth import metrics


def test_e_aurc_subtracts_the_best_order(sample):
    p, y = sample(n=50)
    wrong = np.sort((p.argmax(1) != y).astype(float))
    ideal = np.mean([wrong[: n + 1].mean() for n in range(50)])
    assert metrics.e_aurc(p, y) == pytest.approx(metrics.aurc(p, y) - ideal, abs=1e-12)


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.7, 0.73, 1.0])
def test_risk_at_coverage_is_the_error_of_the_most_confident(sample, coverage):
    p, y = sample(n=100)
    kept = np.argsort(-p.max(1))[: int(np.ceil(round(coverage * 100, 9)))]
    assert metrics.risk_at_coverage(p, y, coverage=coverage) == pytest.approx((p.argmax(1) != y)[kept].mean())
    tied = np.tile([0.7, 0.3], (10, 1))
    assert metrics.risk_at_coverage(tied, np.array([0, 1] * 5), coverage=coverage) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="coverage must be"):
        metrics.risk_at_coverage(p, y, coverage=0.0)


def test_confidence_scores_order_the_predictions(sample):
    p, y = sample()
    z = 3 * np.log(p)
    z = z - z.mean(1, keepdims=True) + np.random.default_rng(0).normal(size=(len(z), 1))
    centred = z - z.mean(1, keepdims=True)
    score = centred.max(1) / (np.abs(centred) ** 3).sum(1) ** (1 / 3)
    assert metrics.confidence_score(z, p=3) == pytest.approx(score)
    wrong = (z.argmax(1) != y)[np.argsort(-score)]
    expected = np.mean([wrong[: n + 1].mean() for n in range(len(z))])
    assert metrics.aurc(logits=z, labels=y, score="p-norm", p=3.0) == pytest.approx(expected, abs=1e-12)
    assert metrics.confidence_score(z, "max-logit") == pytest.approx(z.max(1))
    assert metrics.confidence_score(np.zeros((2, 3))).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="give logits="):
        metrics.aurc(p, y, score="max-logit")
    with pytest.raises(ValueError, match="p must be"):
        metrics.confidence_score(z, p=0.5)
    with pytest.raises(ValueError, match="score must be"):
        metrics.confidence_score(z, "entropy")


def test_augrc_and_the_auroc_of_failure_are_their_definitions(sample):
    for decimals in (None, 1):
        p, y = sample(n=300, decimals=decimals)
        c, right = p.max(1), p.argmax(1) == y
        auroc = roc_auc_score(right, c)
        assert metrics.failure_auroc(p, y) == pytest.approx(auroc, abs=1e-12)
        a = right.mean()
        assert metrics.augrc(p, y) == pytest.approx((1 - auroc) * a * (1 - a) + (1 - a) ** 2 / 2, abs=1e-12)
    assert np.isnan(metrics.failure_auroc(np.array([0.9, 0.8]), np.array([1, 1])))
    all_right, some_right = np.full(60, 0.9), np.linspace(0.3, 0.9, 60)
    undefined = metrics.compare("failure_auroc", some_right, all_right, np.ones(60, int))
    assert (undefined.verdict, undefined.p_value) == ("too few rows", 1.0)
    assert undefined.method == "none: the metric is not defined for one of the two, or for both"
    interval = metrics.failure_auroc(p, y, interval=metrics.Interval(resamples=100))
    assert interval.low < interval.value < interval.high


def test_the_p_norm_is_chosen_only_where_it_is_better(sample):
    p, y = sample(n=2000)
    z = np.log(p)
    assert metrics.choose_score(z, y).score == "max-probability"
    scale = np.random.default_rng(0).lognormal(0.0, 1.5, (2000, 1))  # the size of a row of logits says nothing
    choice = metrics.choose_score(scale * z, y)
    assert choice.score == "p-norm"
    assert choice.aurc == metrics.aurc(logits=scale * z, labels=y, score="p-norm", p=choice.p)
    assert choice.aurc < choice.aurc_of_max_probability
    with pytest.raises(ValueError, match="p must be at least 1 and finite"):
        metrics.aurc(logits=z, labels=y, score="p-norm", p=np.inf)
