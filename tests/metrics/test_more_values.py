"""The bin-free, debiased, selective and split metrics, against their definitions written out."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from scipy.stats import norm as gaussian
from sklearn.metrics import roc_auc_score

from labelsmooth import metrics


@pytest.mark.parametrize("decimals", [None, 1])
def test_ks_is_the_largest_cumulative_gap(sample, decimals):
    p, y = sample(decimals=decimals)
    c, a = p.max(1), p.argmax(1) == y
    expected = max(abs(((c - a) * (c <= t)).sum()) / len(c) for t in np.unique(c))
    assert metrics.ks(p, y) == pytest.approx(expected, abs=1e-12)
    assert metrics.ks(p, y) <= metrics.ece(p, y, bins=400) + 1e-12
    with pytest.raises(ValueError, match="ask for scope=k"):
        metrics.ks(p, y, scope="class-wise")


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.7])
def test_smooth_ece_at_a_bandwidth_is_its_integral(sample, sigma):
    p, y = sample(n=60)
    c, d = p.max(1), p.max(1) - (p.argmax(1) == y)

    def curve(t):
        # Reflected at 0 and 1: the kernel summed over the images of the point.
        images = [c + 2 * k for k in range(-3, 4)] + [2 * k - c for k in range(-3, 4)]
        return abs(sum((d * gaussian.pdf(t, x, sigma)).sum() for x in images)) / len(c)

    integral = quad(curve, 0, 1, limit=400, epsabs=1e-7)[0]
    assert metrics.smooth_ece(p, y, bandwidth=sigma) == pytest.approx(integral, abs=2e-5)


def test_smooth_ece_is_its_own_bandwidth_and_finds_a_known_gap(sample):
    p, y = sample(n=3000, sharpness=3.0)
    value = metrics.smooth_ece(p, y)
    assert metrics.smooth_ece(p, y, bandwidth=value) == pytest.approx(value, abs=1e-6)
    constant, y = np.full(1000, 0.8), (np.arange(1000) < 700).astype(int)
    assert metrics.smooth_ece(constant, y, scope=1) == pytest.approx(0.1, abs=1e-6)
    with pytest.raises(ValueError, match="bandwidth must be"):
        metrics.smooth_ece(constant, y, bandwidth=0.0)


def test_debiased_ece_takes_the_variance_off(sample):
    p, y = sample(n=500)
    c, a = p.max(1), (p.argmax(1) == y).astype(float)
    total = 0.0
    for b in np.array_split(np.argsort(c), 5):
        total += len(b) / 500 * ((c[b].mean() - a[b].mean()) ** 2 - a[b].mean() * (1 - a[b].mean()) / (len(b) - 1))
    assert metrics.debiased_ece(p, y, bins=5) == pytest.approx(max(total, 0) ** 0.5, abs=1e-12)
    values = [metrics.debiased_ece(*sample(n=2000, sharpness=1.0, seed=s)) ** 2 for s in range(30)]
    biased = [metrics.ece(*sample(n=2000, sharpness=1.0, seed=s), norm="l2") ** 2 for s in range(30)]
    assert np.mean(values) < np.mean(biased) / 2


@pytest.mark.parametrize("scope", ["top-label", "class-wise", 2])
def test_over_and_under_confidence_make_up_the_ece(sample, scope):
    p, y = sample()
    over, under = metrics.over_confidence(p, y, scope=scope), metrics.under_confidence(p, y, scope=scope)
    assert over + under == pytest.approx(metrics.ece(p, y, scope=scope), abs=1e-12)
    if scope == "top-label":
        assert over - under == pytest.approx(metrics.confidence_gap(p, y), abs=1e-12)


def test_the_brier_split_adds_up_and_refinement_is_the_recalibrated_score(sample):
    p, y = sample(n=600, k=3)
    split = metrics.brier_split(p, y, bins=6)
    assert split.brier == pytest.approx(metrics.brier(p, y), abs=1e-12)
    assert split.calibration + split.refinement == pytest.approx(split.brier, abs=1e-12)
    assert split.uncertainty - split.resolution == pytest.approx(split.refinement, abs=1e-12)
    recalibrated = np.empty_like(p)
    for k in range(3):
        for b in np.array_split(np.argsort(p[:, k]), 6):
            recalibrated[b, k] = (y[b] == k).mean()
    assert split.refinement == pytest.approx(((recalibrated - np.eye(3)[y]) ** 2).sum(1).mean(), abs=1e-12)
    binary = metrics.brier_split(p[:, 1], (y == 1).astype(int), bins=6)
    assert binary.brier == pytest.approx(((p[:, 1] - (y == 1)) ** 2).mean(), abs=1e-12)


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


def test_the_nll_split_finds_the_temperature(sample):
    p, y = sample(n=3000, sharpness=2.0)
    split = metrics.nll_split(p, y, interval=metrics.Interval(resamples=100))
    fitted = minimize_scalar(lambda t: metrics.nll(logits=np.log(p) / t, labels=y), bounds=(0.1, 10), method="bounded")
    assert split.temperature == pytest.approx(fitted.x, rel=1e-3)
    assert split.refinement.value == pytest.approx(fitted.fun, abs=1e-8)
    assert split.nll.value == pytest.approx(metrics.nll(p, y), abs=1e-12)
    assert split.calibration.value == pytest.approx(split.nll.value - split.refinement.value, abs=1e-12)
    assert 0 < split.calibration.low < split.calibration.value < split.calibration.high
    assert metrics.nll_split(p[:, :2] / p[:, :2].sum(1, keepdims=True), y % 2).refinement < np.log(2)
    with pytest.raises(ValueError, match="has probability 0"):
        metrics.nll_split(np.array([[1.0, 0.0]]), np.array([1]))


@pytest.mark.parametrize("slope", [1.0, 2.0])
def test_intervals_of_the_parts_hold_the_truth_in_small_samples(slope):
    """In bins of 4 rows the plain resamples hold the parts of the Brier score in 0 to 40%, and never a gain of 0."""
    rng, held = np.random.default_rng(0), np.zeros(3)
    odds = rng.normal(0.0, 2.0, 100_000)
    claimed, true = 1 / (1 + np.exp(-slope * odds)), 1 / (1 + np.exp(-odds))
    nll = (-true * np.log(claimed) - (1 - true) * np.log1p(-claimed)).mean()
    least = (-true * np.log(true) - (1 - true) * np.log1p(-true)).mean()
    for seed in range(25):
        z = rng.normal(0.0, 2.0, 60)
        p, y = 1 / (1 + np.exp(-slope * z)), (rng.random(60) < 1 / (1 + np.exp(-z))).astype(int)
        settings = metrics.Interval(resamples=100, seed=seed)
        gain = metrics.nll_split(p, y, interval=settings).calibration
        split = metrics.brier_split(p, y, interval=settings)
        bins = np.searchsorted(np.quantile(p, np.arange(1, 15) / 15, method="inverted_cdf"), claimed)
        share = (np.bincount(bins, true) / np.bincount(bins))[bins]
        refinement, brier = (share * (1 - share)).mean(), (true * (1 - claimed) ** 2 + (1 - true) * claimed**2).mean()
        truths = (nll - least, brier - refinement, refinement)
        estimates = (gain, split.calibration, split.refinement)
        held += [e.low - 1e-9 <= truth <= e.high for e, truth in zip(estimates, truths, strict=True)]
    assert (held >= 21).all()


def test_spiegelhalter_is_its_formula(sample):
    p, y = sample()
    c, a = p.max(1), p.argmax(1) == y
    z = ((a - c) * (1 - 2 * c)).sum() / np.sqrt(((1 - 2 * c) ** 2 * c * (1 - c)).sum())
    result = metrics.spiegelhalter_test(p, y)
    assert result.statistic == pytest.approx(z)
    assert result.p_value == pytest.approx(2 * gaussian.sf(abs(z)))
    assert metrics.spiegelhalter_test(np.array([1.0, 0.0]), np.array([1, 0]), scope=1).p_value == 1.0
    assert metrics.spiegelhalter_test(np.array([1.0, 0.0]), np.array([1, 1]), scope=1).p_value == 0.0


@pytest.mark.parametrize("metric", ["ece", "ks", "smooth_ece", "spiegelhalter"])
def test_p_values_are_uniform_for_calibrated_models_and_small_for_others(metric):
    def p_value(p, y, seed):
        if metric == "spiegelhalter":
            return metrics.spiegelhalter_test(p, y, scope=1).p_value
        return metrics.consistency_test(p, y, scope=1, metric=metric, resamples=99, seed=seed).p_value

    rng = np.random.default_rng(0)
    calibrated, distorted = [], []
    draws = 30 if metric == "smooth_ece" else 80
    for seed in range(draws):
        p = rng.beta(2, 1, 300)
        y = (rng.random(300) < p).astype(int)
        calibrated.append(p_value(p, y, seed))
        distorted.append(p_value(p**3, y, seed))
    # Kolmogorov's 0.1% bound on the largest distance of n uniform numbers from the diagonal.
    ordered = np.sort(calibrated)
    assert np.abs(ordered - (np.arange(draws) + 0.5) / draws).max() < 1.95 / np.sqrt(draws)
    assert np.median(distorted) <= 0.011


def test_tests_check_their_arguments(sample):
    p, y = sample(n=50)
    with pytest.raises(ValueError, match="metric must be"):
        metrics.consistency_test(p, y, metric="brier")
    with pytest.raises(ValueError, match="resamples must be"):
        metrics.consistency_test(p, y, resamples=10)
    with pytest.raises(ValueError, match="ask for scope=k"):
        metrics.consistency_test(p, y, scope="class-wise")
