"""Intervals and comparisons, on simulated studies whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from labelsmooth.study.compare import compare, estimate, planned_comparisons


def simulated(rng, seeds: int, examples: int, mean: float, by_seed: float, by_example: float, noise: float):
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
    repeats = 1500
    covered = 0
    for _ in range(repeats):
        low, high = estimate(simulated(rng, 5, 200, 0.7, by_seed, by_example, noise)).interval()
        covered += low <= 0.7 <= high
    # 95% within three standard errors; the interaction is counted twice, so a little more is right too.
    assert 0.933 <= covered / repeats <= 0.99


def test_one_source_of_error_alone_is_students_t() -> None:
    values = np.random.default_rng(1).standard_normal((1, 40))
    expected = stats.ttest_1samp(values[0], 0.0)
    assert estimate(values).p_value() == pytest.approx(expected.pvalue)
    assert estimate(values).interval() == pytest.approx(tuple(expected.confidence_interval()))
    seeds = np.repeat(np.array([[0.1], [0.4], [0.2]]), 1000, axis=1)
    expected = stats.ttest_1samp(seeds[:, 0], 0.0)
    assert estimate(seeds).p_value() == pytest.approx(expected.pvalue)


def test_identical_methods_do_not_differ() -> None:
    result = estimate(np.zeros((5, 10)))
    assert result.p_value() == 1.0
    assert result.interval() == (0.0, 0.0)
    assert result.seeds_needed(0.05) is None


def make_table(rng, methods, effect, seeds=5):
    return {
        (method, calibrator, metric): simulated(rng, seeds, 300, effect.get(method, 0.0), 0.02, 0.1, 0.1)
        for method in methods
        for calibrator in ("none", "temperature")
        for metric in ("error", "nll", "ece", "aurc", "confidence_gap")
    }


def test_holm_keeps_the_family_wise_error() -> None:
    rng = np.random.default_rng(2)
    methods = ("plain", "dropout", "label-smoothing")
    pairs = planned_comparisons(methods, ("none", "temperature"))
    wrong = sum(any(c.called for c in compare(make_table(rng, methods, {}), pairs)) for _ in range(200))
    assert wrong / 200 <= 0.10


def test_called_exactly_where_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(3)
    methods = ("plain", "dropout", "label-smoothing")
    pairs = planned_comparisons(methods, ("none", "temperature"))
    called = 0
    for _ in range(20):
        for c in compare(make_table(rng, methods, {"label-smoothing": 0.12}), pairs):
            assert c.called == (c.low > 0 or c.high < 0)
            assert (c.seeds_needed == 0) == c.called
            called += c.called
    assert called > 100


def test_holm_agrees_with_the_textbook_procedure() -> None:
    rng = np.random.default_rng(4)
    methods = ("plain", "dropout", "label-smoothing")
    pairs = planned_comparisons(methods, ("none", "temperature"))
    results = compare(make_table(rng, methods, {"label-smoothing": 0.06}), pairs)
    p = np.array([c.p_value for c in results])
    order = np.argsort(p)
    adjusted = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    expected = np.empty(len(p), bool)
    expected[order] = adjusted <= 0.05
    assert [c.called for c in results] == expected.tolist()
    assert 0 < expected.sum() < len(p)


def test_one_seed_calls_no_difference_between_trainings() -> None:
    rng = np.random.default_rng(5)
    methods = ("plain", "label-smoothing")
    pairs = planned_comparisons(methods, ("none", "temperature"))
    results = compare(make_table(rng, methods, {"label-smoothing": 5.0}, seeds=1), pairs)
    for c in results:
        if c.method != c.reference_method and c.reference_method:
            assert not c.called
    gap = next(c for c in results if c.method == "label-smoothing" and c.metric == "confidence_gap")
    assert gap.called, "this one model's confidence gap is a fact about the model"


def test_more_seeds_settle_what_seeds_leave_open() -> None:
    rng = np.random.default_rng(6)
    result = estimate(simulated(rng, 3, 5000, 0.05, 0.05, 0.01, 0.01))
    needed = result.seeds_needed(0.05)
    assert needed is not None
    assert needed > 3
    assert estimate(simulated(rng, 3, 20, 0.001, 0.0, 1.0, 0.0)).seeds_needed(0.05) is None
