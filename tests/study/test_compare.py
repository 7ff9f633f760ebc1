"""Comparisons: two corrected families and three verdicts, on simulated studies whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from labelsmooth.study.compare import MARGINS, clip, compare, holm
from labelsmooth.study.planned import main_method, planned_comparisons

METHODS = ("plain", "dropout", "label-smoothing", "mixup")
CALIBRATORS = ("none", "temperature")
PAIRS = planned_comparisons(METHODS, CALIBRATORS)


def make_table(rng, effect=None, seeds=5, spread=0.02, examples=200, methods=METHODS):
    effect = effect or {}
    return {
        (method, calibrator, metric): effect.get(method, 0.0)
        + spread * rng.standard_normal((seeds, 1))
        + 5 * spread * (rng.standard_normal((1, examples)) + rng.standard_normal((seeds, examples)))
        for method in methods
        for calibrator in CALIBRATORS
        for metric in ("error", "nll", "ece", "aurc", "confidence_gap")
    }


def test_the_primary_family_is_smoothing_after_a_temperature() -> None:
    primary = [pair for pair in PAIRS if pair.family == "primary"]
    assert [(p.method, p.calibrator, p.reference_method, p.reference_calibrator, p.metric) for p in primary] == [
        ("label-smoothing", "none", "plain", "none", "error"),
        ("label-smoothing", "temperature", "plain", "temperature", "nll"),
        ("label-smoothing", "temperature", "plain", "temperature", "ece"),
    ]
    assert len({pair[:5] for pair in PAIRS}) == len(PAIRS)
    assert main_method(("plain", "focal")) == "focal"
    assert main_method(("plain", "focal", "margin")) == ""
    assert not [p for p in planned_comparisons(("plain", "focal", "margin"), CALIBRATORS) if p.family == "primary"]


@pytest.mark.parametrize("count", [1, 5, 40])
def test_holm_agrees_with_statsmodels(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(2):  # statsmodels collects garbage at each call
        p = rng.random(count) ** 6
        significant, levels = holm(p)
        expected, corrected, _, _ = multipletests(p, 0.05, method="holm")
        assert significant.tolist() == expected.tolist()
        assert ((p <= levels) == expected).all()
        assert (corrected[significant] <= 0.05).all()


@pytest.mark.parametrize("seeds", [3, 5])
def test_each_family_is_rarely_wrong_where_nothing_differs(seeds: int) -> None:
    rng = np.random.default_rng(2)
    wrong = {"primary": 0, "secondary": 0}
    for _ in range(150):
        results = compare(make_table(rng, seeds=seeds), PAIRS)
        for family in wrong:
            wrong[family] += any(c.significant for c in results if c.family == family)
    assert max(wrong.values()) <= 14  # of 150 at 5%: more in 1 of 100 tries


def test_significant_exactly_where_the_interval_excludes_zero() -> None:
    rng = np.random.default_rng(3)
    significant = 0
    for _ in range(20):
        for c in compare(make_table(rng, {"label-smoothing": 0.12}), PAIRS):
            assert c.significant == (c.low > 0 or c.high < 0)
            assert c.significant == (c.verdict == "differs")
            assert c.seeds_needed == 0 or c.verdict == "inconclusive"
            significant += c.significant
    assert significant > 100


def test_with_two_seeds_nothing_is_significant() -> None:
    results = compare(make_table(np.random.default_rng(5), {"label-smoothing": 0.9}, seeds=2), PAIRS)
    assert {c.verdict for c in results} == {"inconclusive"}
    assert all(-1 <= c.low <= c.high <= 1 for c in results if c.metric in ("error", "ece", "confidence_gap"))
    assert any(c.low == -1 for c in results)


def test_equivalent_where_the_90_percent_interval_lies_within_the_margin() -> None:
    rng = np.random.default_rng(6)
    table = make_table(rng, spread=0.0005)
    margins = {"error": 0.005, "ece": 0.00001}
    results = {(c.method, c.metric, c.family): c for c in compare(table, PAIRS, margins=margins)}
    error = results["label-smoothing", "error", "primary"]
    assert error.verdict == "equivalent"
    assert -0.005 < error.low90 <= error.high90 < 0.005
    assert error.low < error.low90
    assert error.seeds_needed == 0
    assert results["label-smoothing", "ece", "primary"].verdict == "inconclusive"
    assert results["label-smoothing", "nll", "primary"].verdict == "inconclusive", "no margin, no equivalence"


def test_a_difference_at_the_margin_is_seldom_called_equivalent() -> None:
    rng = np.random.default_rng(7)
    repeats = 150
    table_of = lambda: make_table(rng, {"label-smoothing": MARGINS["error"]}, spread=0.001)  # noqa: E731
    results = [compare(table_of(), PAIRS)[0] for _ in range(repeats)]
    assert sum(c.small for c in results) / repeats <= 0.10
    assert {c.metric for c in results} == {"error"}


def test_identical_results_are_identical() -> None:
    table = make_table(np.random.default_rng(8))
    for key in list(table):
        if key[0] == "mixup":
            table[key] = table[("plain", *key[1:])]
    row = next(c for c in compare(table, PAIRS) if (c.method, c.metric) == ("mixup", "aurc"))
    assert row.identical
    assert (row.verdict, row.p_value, row.low, row.high) == ("equivalent", 1.0, 0.0, 0.0)
    assert "identical" in row.note


def test_a_copy_of_a_method_does_not_narrow_the_others_intervals() -> None:
    rng = np.random.default_rng(10)
    shrunk = []
    for _ in range(15):
        table = make_table(rng, methods=METHODS[:3], seeds=3, examples=50)
        copied = {**table, **{("mixup", *key[1:]): table[key] for key in table if key[0] == "plain"}}
        pairs = planned_comparisons(METHODS[:3], CALIBRATORS)
        with_copy, alone = compare(copied, pairs)[0], compare(table, pairs)[0]
        shrunk.append((with_copy.high90 - with_copy.low90) / (alone.high90 - alone.low90))
    assert min(shrunk) == pytest.approx(1.0)


def test_an_infinite_nll_is_said_and_not_compared() -> None:
    table = make_table(np.random.default_rng(11))
    table["dropout", "none", "nll"][0, 3] = np.inf
    row = next(c for c in compare(table, PAIRS) if (c.method, c.metric) == ("dropout", "nll"))
    assert row.verdict == "inconclusive"
    assert "infinite" in row.note
    assert np.isfinite([row.difference, row.low, row.high]).all()


def test_as_many_seeds_as_needed_settle_it() -> None:
    """The promised number of seeds, and no fewer, shows the difference in about 80% of studies."""
    rng = np.random.default_rng(12)
    pilot = next(
        c
        for _ in range(50)
        if (c := compare(make_table(rng, {"label-smoothing": 0.025}, spread=0.02, examples=4000), PAIRS)[0]).verdict
        == "inconclusive"
        and 0.02 < c.difference < 0.03
    )
    assert pilot.seeds_needed is not None
    assert 6 <= pilot.seeds_needed <= 60
    outcomes = [
        compare(make_table(rng, {"label-smoothing": pilot.difference}, pilot.seeds_needed, examples=4000), PAIRS[:3])[0]
        for _ in range(40)
    ]
    assert 0.5 <= np.mean([c.significant for c in outcomes]) <= 1.0


def test_without_more_examples_seeds_may_not_settle_it() -> None:
    table = make_table(np.random.default_rng(13), examples=10, spread=0.001)
    for key in table:
        table[key] = table[key] + (0.05 * np.random.default_rng(len(key[0])).standard_normal((1, 10)))
    assert compare(table, PAIRS)[0].seeds_needed is None


def test_intervals_stay_within_what_is_possible() -> None:
    assert clip("error", -0.2, 0.5) == (0.0, 0.5)
    assert clip("error", -2.83, 3.13, difference=True) == (-1.0, 1.0)
    assert clip("nll", -1.0, 5.0) == (0.0, 5.0)
    assert clip("largest_logit", -1.0, 5.0) == (-1.0, 5.0)
