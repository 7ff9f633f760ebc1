"""Bootstrap intervals and paired differences: against explicit resampling, known errors, and their own laws."""

from functools import partial

import numpy as np
import pytest
import torch

from labelsmooth import metrics
from labelsmooth.metrics import Estimate, Interval
from labelsmooth.metrics.catalogue import CATALOGUE
from labelsmooth.metrics.inputs import read

FUNCTIONS = [
    "error",
    "nll",
    "brier",
    "confidence_gap",
    "ece",
    "aurc",
    "e_aurc",
    "ks",
    "smooth_ece",
    "debiased_ece",
    "over_confidence",
    "under_confidence",
]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("decimals", [None, 1])
def test_draws_are_the_metric_on_resampled_examples(sample, name, decimals):
    p, y = sample(n=150, decimals=decimals)
    p = np.maximum(p, 1e-6) / np.maximum(p, 1e-6).sum(1, keepdims=True)
    fixed = name in ("ece", "debiased_ece", "over_confidence", "under_confidence")
    options = {"binning": "equal-width", "bins": 5} if fixed else {}
    options = {"bandwidth": 0.1} if name == "smooth_ece" else options
    estimate = getattr(metrics, name)(p, y, interval=Interval(method="percentile", resamples=100, seed=3), **options)
    rng = np.random.default_rng(3)
    draws = []
    for _ in range(100):
        i = rng.integers(0, 150, 150)
        draws.append(getattr(metrics, name)(p[i], y[i], **options))
    assert estimate.value == pytest.approx(getattr(metrics, name)(p, y, **options), abs=1e-12)
    if name == "debiased_ece":  # its variances stay those of the sample, not of the resample
        return
    assert (estimate.low, estimate.high) == pytest.approx(
        tuple(np.quantile(draws, [0.025, 0.975], method="weibull")), abs=1e-9
    )
    assert "percentile bootstrap, 100 resamples of 150 examples" in estimate.method


def test_bca_is_scipys(sample):
    from scipy.stats import bootstrap

    p, y = sample(n=300)
    estimate = metrics.nll(p, y, interval=Interval(method="bca", resamples=4000))
    losses = -np.log(p[np.arange(300), y])
    theirs = bootstrap((losses,), np.mean, n_resamples=4000, method="BCa", vectorized=True, rng=1).confidence_interval
    width = theirs.high - theirs.low
    assert (estimate.low, estimate.high) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)
    assert estimate.low > np.quantile(losses, 0.0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_metric_has_an_interval_and_the_seed_decides_it(sample, name):
    p, y = sample(n=200)
    settings = Interval(resamples=100)
    estimate = getattr(metrics, name)(torch.from_numpy(p), torch.from_numpy(y), interval=settings)
    assert isinstance(estimate, Estimate)
    assert estimate.low <= estimate.high
    assert estimate == getattr(metrics, name)(p, y, interval=settings)
    if name not in ("error", "confidence_gap", "debiased_ece", "under_confidence"):
        assert estimate != getattr(metrics, name)(p, y, interval=Interval(resamples=100, seed=1))


@pytest.mark.parametrize("name", ["ece", "ks", "smooth_ece", "debiased_ece"])
def test_distances_reach_zero_for_a_calibrated_model_and_not_for_a_distorted_one(sample, name):
    settings = Interval(resamples=200)
    low = [getattr(metrics, name)(*sample(n=1000, sharpness=1.0, seed=s), interval=settings).low for s in range(20)]
    assert sum(value == 0.0 for value in low) >= 17
    assert getattr(metrics, name)(*sample(n=1000, sharpness=3.0), interval=settings).low > 0.02


def test_a_known_calibration_error_is_covered():
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        p = rng.uniform(0.55, 0.95, 800)
        y = (rng.random(800) >= p - 0.05).astype(int)  # right with probability p - 0.05
        estimate = metrics.ece(np.stack([p, 1 - p], 1), y, bins=10, interval=Interval(resamples=200))
        covered += estimate.low <= 0.05 <= estimate.high
    assert covered >= 51  # 95% of 60 is 57; fewer than 51 is beyond three standard deviations


def test_a_dense_example_is_drawn_whole():
    rng = np.random.default_rng(0)
    # Within an image all pixels are right or all wrong: pixels would promise a precision that images do not have.
    right = rng.random(60) < 0.7
    p = np.tile(np.array([0.7, 0.3])[None, :, None], (60, 1, 50))
    y = np.repeat((~right).astype(int)[:, None], 50, axis=1)
    by_image = metrics.error(p, y, interval=0.95)
    by_pixel = metrics.error(p.transpose(0, 2, 1).reshape(-1, 2), y.reshape(-1), interval=0.95)
    assert by_image.high - by_image.low > 4 * (by_pixel.high - by_pixel.low)


def test_risk_at_coverage_and_infinite_losses_have_intervals(sample):
    p, y = sample(n=200)
    assert metrics.risk_at_coverage(p, y, coverage=0.5, interval=0.9).level == 0.9
    q = np.array([[1.0, 0.0]] + [[0.5, 0.5]] * 99)
    estimate = metrics.nll(q, np.array([1] + [0] * 99), interval=0.95)
    assert estimate.value == estimate.high == np.inf
    assert estimate.low == pytest.approx(np.log(2))


def test_the_parts_of_the_brier_score_have_intervals(sample):
    p, y = sample(n=800)
    settings = Interval(resamples=100, seed=3)
    plain, estimated = metrics.brier_split(p, y), metrics.brier_split(p, y, interval=settings)
    for name in ("brier", "calibration", "refinement", "uncertainty", "resolution"):
        assert getattr(estimated, name).value == pytest.approx(getattr(plain, name), abs=1e-12)
    whole = metrics.brier(p, y, interval=settings)
    assert (estimated.brier.low, estimated.brier.high) == pytest.approx((whole.low, whole.high), abs=1e-12)
    assert estimated.calibration.low > 0.0
    assert estimated.resolution.low < estimated.resolution.value < estimated.resolution.high
    with pytest.raises(ValueError, match="parts of a score"):
        metrics.brier_split(p, y, interval=Interval(method="bca"))


@pytest.mark.parametrize(
    "gap", [lambda c: 0.1 * (c > 0.75), lambda c: 0.3 * (c > 0.9), lambda c: 0.04 + 0 * c], ids=["half", "few", "all"]
)
def test_a_calibration_error_is_covered_wherever_it_sits(gap):
    """An interval along the observed gaps holds it in 64 to 88% where it sits in some bins alone."""
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng([seed, 7])
        c = rng.uniform(0.55, 0.95, 1500)
        y = (rng.random(1500) >= c - gap(c)).astype(int)
        edges = np.quantile(c, np.arange(1, 15) / 15)
        truth = np.abs(np.bincount(np.searchsorted(edges, c), gap(c))).sum() / 1500
        estimate = metrics.ece(np.stack([c, 1 - c], 1), y, interval=Interval(resamples=200, seed=seed))
        covered += estimate.low - 1e-4 <= truth <= estimate.high + 1e-4
    assert covered >= 89  # 95 less three standard errors


def test_every_metric_of_the_catalogue_is_compared(sample):
    p, y = sample(n=600)
    for name in set(CATALOGUE) - {"ece_equal_width", "risk_at_coverage"}:
        difference = metrics.compare(name, p, np.roll(p, 1, axis=0), y, interval=Interval(resamples=100))
        value = getattr(metrics, name)(p, y)
        if CATALOGUE[name].statistic(read(p, y)).signed is None:
            assert difference.first == pytest.approx(value, abs=1e-12)
        else:  # without the upward bias, which is known up to chance
            assert 0.0 <= difference.first <= value + 1e-3
        assert difference.value == pytest.approx(difference.first - difference.second, abs=2e-3)
        assert difference.low <= difference.value <= difference.high
    with pytest.raises(ValueError, match="metric must be one of"):
        metrics.compare("accuracy", p, p, y)


@pytest.mark.parametrize("name", ["error", "nll", "brier", "ece", "confidence_gap", "aurc"])
def test_a_model_does_not_differ_from_itself_and_does_from_a_worse_one(sample, name):
    p, y = sample(n=600)
    same = metrics.compare(name, p, p, y, interval=Interval(resamples=100))
    assert (same.value, same.p_value, same.verdict) == (0.0, 1.0, "identical")
    assert same.low == pytest.approx(-same.high)
    assert same.high < 0.006  # 0 but for the error, which might differ in examples that were not drawn
    noisy = p[np.random.default_rng(0).permutation(600)]
    difference = metrics.compare(name, p, noisy, y)
    plug_in = getattr(metrics, name)(p, y) - getattr(metrics, name)(noisy, y)
    assert difference.value == pytest.approx(difference.first - difference.second)
    assert difference.value == pytest.approx(plug_in, abs=2e-2 if name == "ece" else 1e-12)
    if name != "aurc" or difference.p_value < 0.05:
        assert difference.high < 0
        assert difference.p_value < 0.05
    flipped = metrics.compare(name, noisy, p, y)
    assert (flipped.low, flipped.high) == pytest.approx((-difference.high, -difference.low), abs=1e-12)


def test_pairing_narrows_the_interval(sample):
    p, y = sample(n=800)
    q = 0.9 * p + 0.02
    difference = metrics.compare("nll", p, q, y)
    one, two = metrics.nll(p, y, interval=0.95), metrics.nll(q, y, interval=0.95)
    assert difference.high - difference.low < 0.5 * min(one.high - one.low, two.high - two.low)
    z = metrics.compare("nll", np.log(p), np.log(q), y, scores="logits")
    assert (z.value, z.low) == pytest.approx((difference.value, difference.low), abs=1e-9)


def test_intervals_check_their_arguments(sample):
    p, y = sample(n=50)
    for bad, words in [
        ({"interval": 95}, "between 0 and 1"),
        ({"interval": Interval(method="inversion")}, "distances from calibration"),
    ]:
        with pytest.raises(ValueError, match=words):
            metrics.error(p, y, **bad)
    with pytest.raises(ValueError, match="method must be"):
        Interval(method="normal")
    with pytest.raises(ValueError, match="resamples must be"):
        Interval(resamples=10)
    with pytest.raises(ValueError, match="needs influence values"):
        metrics.ks(p, y, interval=Interval(method="bca"))
    with pytest.raises(ValueError, match="they must be equal"):
        metrics.compare("nll", p, p[:, :4], y)
    with pytest.raises(ValueError, match="scores must be"):
        metrics.compare("nll", p, p, y, scores="softmax")


@pytest.mark.parametrize("name", ["aurc", "e_aurc", "augrc", "failure_auroc", "risk_at_coverage"])
def test_the_interval_of_a_ranking_takes_the_order_of_its_score(name: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 4))
    labels = (scores + rng.gumbel(size=scores.shape)).argmax(1)
    logits = scores - np.log(np.exp(scores).sum(1, keepdims=True))  # the largest logit orders rows as its probability
    options = {"coverage": 0.5} if name == "risk_at_coverage" else {}
    metric = partial(getattr(metrics, name), logits=logits, labels=labels, interval=Interval(resamples=100), **options)
    assert metric(score="max-logit") == metric()
    assert metric(score="p-norm") != metric()


def test_a_class_wise_interval_holds_with_many_classes_and_few_errors() -> None:
    """Over-confident, 100 classes, 0.5% error: chance adds most where the gaps are those of a temperature."""
    rng, rows, classes = np.random.default_rng(1), 2000, 100
    right = 1.0 - 0.5 * rng.beta(0.6, 60.0, rows)
    confidence = 1.0 / (1.0 + (1.0 / right - 1.0) ** 1.5)
    others = rng.dirichlet(np.ones(classes - 1), rows)
    claimed, true = (np.column_stack([top, (1.0 - top)[:, None] * others]) for top in (confidence, right))
    order = rng.permuted(np.tile(np.arange(classes), (rows, 1)), axis=1)
    claimed, true = np.take_along_axis(claimed, order, 1), np.take_along_axis(true, order, 1)
    labels = (true.cumsum(1) < rng.random((rows, 1))).sum(1).clip(max=classes - 1)
    estimate = metrics.ece(claimed, labels, scope="class-wise", interval=Interval(resamples=200))
    total = 0.0
    for p, q in zip(claimed.T, true.T, strict=True):
        total += sum(abs(gaps.sum()) for gaps in np.array_split((p - q)[p.argsort()], 15))
    assert estimate.low < total / (rows * classes) < estimate.high
