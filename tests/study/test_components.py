"""Variance components and intervals, on simulated tables whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from labelsmooth.study.components import Design, Means, between_examples, moderated, single, vary_alike


def simulated(rng, seeds: int, examples: int, mean=0.0, by_seed=0.0, by_example=0.0, noise=0.0):
    return (
        mean
        + by_seed * rng.standard_normal((seeds, 1))
        + by_example * rng.standard_normal((1, examples))
        + noise * rng.standard_normal((seeds, examples))
    )


@pytest.mark.parametrize(
    ("by_seed", "by_example", "noise"), [(1.0, 0.0, 0.0), (0.05, 1.0, 0.3), (0.3, 3.0, 1.0), (0.0, 1.0, 0.0)]
)
def test_intervals_cover_the_truth(by_seed: float, by_example: float, noise: float) -> None:
    rng = np.random.default_rng(0)
    repeats = 800
    covered = 0
    for _ in range(repeats):
        means = single(simulated(rng, 5, 200, 0.7, by_seed, by_example, noise), Design())
        covered += abs(means.mean[0] - 0.7) <= means.half_width(0.05)[0]
    # 95% within three standard errors; where two parts share the variance the interval is on the safe side.
    assert 0.927 <= covered / repeats <= 0.995


def test_one_source_of_variance_alone_is_students_t() -> None:
    values = np.random.default_rng(1).standard_normal((1, 40))
    expected = stats.ttest_1samp(values[0], 0.0)
    means = single(values, Design())
    assert means.p_value()[0] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert means.half_width(0.05)[0] == pytest.approx((high - low) / 2)
    seeds = np.repeat(np.array([[0.1], [0.4], [0.2]]), 1000, axis=1)
    assert single(seeds, Design()).p_value()[0] == pytest.approx(stats.ttest_1samp(seeds[:, 0], 0.0).pvalue)


def test_the_interval_excludes_zero_exactly_at_its_p_value() -> None:
    means = Means(np.array([2.0, -0.3]), np.array([[0.2, 0.1], [0.01, 0.0]]), np.array([[2.0, 100.0], [4.0, 50.0]]))
    p = means.p_value()
    assert means.half_width(p) == pytest.approx(np.abs(means.mean), rel=1e-6)


def test_the_interaction_is_counted_once() -> None:
    rng = np.random.default_rng(2)
    variances = [between_examples(simulated(rng, 4, 300, by_example=1.0, noise=2.0)) for _ in range(200)]
    example, interaction = np.mean(variances, 0)
    assert example == pytest.approx(1.0, abs=0.05)
    assert interaction == pytest.approx(4.0, abs=0.05)
    # Only the interaction: the variance of the mean over all S x N values is noise² / (S N), and no more.
    errors = [single(simulated(rng, 5, 300, noise=1.0), Design()).error[0] ** 2 for _ in range(400)]
    assert np.mean(errors) == pytest.approx(1 / 1500, rel=0.15)


def test_like_variances_are_pooled_and_an_unlike_one_is_left_out() -> None:
    rng = np.random.default_rng(3)
    effects = 5 * rng.standard_normal((6, 1)) + 3 * rng.standard_normal((1, 400))
    spread = moderated(effects + rng.standard_normal((6, 400)))
    assert spread.alike.all()
    assert spread.variance == pytest.approx(np.ones(6), abs=0.2)
    assert spread.freedom > 400
    scale = np.array([1, 1, 5, 1, 1, 1])[:, None]
    spread = moderated(effects + scale * rng.standard_normal((6, 400)))
    assert spread.alike.tolist() == [True, True, False, True, True, True]
    assert spread.variance[spread.alike] == pytest.approx(np.ones(5), abs=0.2)


def test_one_run_gone_wrong_does_not_widen_every_interval() -> None:
    means = np.random.default_rng(4).standard_normal((4, 3))
    means[2, 1] += 100
    spread = moderated(means)
    assert spread.alike.tolist() == [True, True, False, True]
    assert spread.pooled < 10


def test_with_few_seeds_the_pooled_variance_has_more_degrees_of_freedom() -> None:
    rng = np.random.default_rng(4)
    fits = [moderated(rng.standard_normal((6, 3))) for _ in range(300)]
    assert np.median([spread.freedom for spread in fits]) == 10
    assert np.mean([spread.variance.mean() for spread in fits]) == pytest.approx(1, abs=0.1)
    assert np.mean([spread.alike.all() for spread in fits]) > 0.95


def test_the_prior_is_that_of_limma() -> None:
    """d0 solves trigamma(d0 / 2) = Var(log s²) - trigamma(d / 2)."""
    means = np.random.default_rng(9).standard_normal((5, 4)) * np.array([1, 1, 2, 0.5, 1.5])[:, None]
    residual = means - means.mean(1, keepdims=True) - means.mean(0) + means.mean()
    excess = np.log((residual**2).sum(1)).var(ddof=1) - special.polygamma(1, 1.5)
    assert excess > 0
    prior = moderated(means).freedom - 3
    assert special.polygamma(1, prior / 2) == pytest.approx(excess)


def test_redrawn_splits_widen_the_interval() -> None:
    values = np.random.default_rng(5).standard_normal((6, 50))
    by_seed = values.mean(1)
    means = single(values, Design(splits=3, ratio=0.5, same_test=False))
    units = (by_seed[:3] + by_seed[3:]) / 2
    # Nadeau and Bengio 2003, equation 9: (1 / J + n_test / n_train) times the variance of the splits.
    assert means.error[0] ** 2 == pytest.approx((1 / 3 + 0.5) * units.var(ddof=1))
    assert means.freedom[0, 0] == 2


def test_a_method_that_varies_more_in_all_metrics_is_found_with_three_seeds() -> None:
    """One table of three seeds shows it half the time, twenty nearly always; where none does, few are accused."""
    rng = np.random.default_rng(0)
    scale = np.ones((8, 1))
    scale[-1] = 4.0
    unlike = [[scale * rng.standard_normal((8, 3)) for _ in range(20)] for _ in range(100)]
    assert np.mean([not vary_alike(tables[:1])[-1] for tables in unlike]) < 0.7
    assert np.mean([not vary_alike(tables)[-1] for tables in unlike]) > 0.95
    like = [[rng.standard_normal((8, 3)) for _ in range(20)] for _ in range(200)]
    assert np.mean([vary_alike(tables).all() for tables in like]) > 0.95


def test_copies_of_a_table_are_no_new_evidence() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        means = rng.standard_normal((5, 4)) * np.array([[1.0], [1.0], [1.0], [1.0], [5.0]])
        assert vary_alike([means] * 10).tolist() == vary_alike([means]).tolist()
