"""Each metric against its definition written out in loops, and against scikit-learn where it has one."""

from fractions import Fraction
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, zero_one_loss

from labelsmooth import metrics


def ece_by_hand(confidence, correct, inner, norm):
    """Loop over the bins (e_b, e_{b+1}] between the inner edges."""
    gaps, shares = [], []
    bounds = [-np.inf, *inner, np.inf]
    for low, high in pairwise(bounds):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gaps.append(abs(confidence[inside].mean() - correct[inside].mean()))
            shares.append(inside.mean())
    gaps, shares = np.array(gaps), np.array(shares)
    return {"l1": (shares * gaps).sum(), "l2": (shares * gaps**2).sum() ** 0.5, "max": gaps.max()}[norm]


def inner_edges(confidence, bins, binning):
    if binning == "equal-width":
        return [b / bins for b in range(1, bins)]
    ordered = np.sort(confidence)
    ranks = [-(-j * len(ordered) // bins) - 1 for j in range(1, bins)]
    return sorted({ordered[r] for r in ranks})


def test_pointwise_metrics_agree_with_sklearn(sample):
    p, y = sample()
    assert metrics.error(p, y) == pytest.approx(zero_one_loss(y, p.argmax(1)), abs=1e-15)
    assert metrics.nll(p, y) == pytest.approx(log_loss(y, p), rel=1e-12)
    assert metrics.brier(p, y) == pytest.approx(((p - np.eye(5)[y]) ** 2).sum(1).mean(), rel=1e-12)
    assert metrics.confidence_gap(p, y) == pytest.approx(p.max(1).mean() - (p.argmax(1) == y).mean(), abs=1e-14)


def test_binary_brier_is_sklearns(sample):
    p, y = sample(k=2)
    assert metrics.brier(p[:, 1], y) == pytest.approx(brier_score_loss(y, p[:, 1]), rel=1e-12)
    assert metrics.brier(p, y) == pytest.approx(2 * brier_score_loss(y, p[:, 1]), rel=1e-12)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("binning", ["equal-mass", "equal-width"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_ece_is_its_definition(sample, norm, binning, decimals):
    p, y = sample(decimals=decimals)
    options = {"bins": 7, "binning": binning, "norm": norm}
    c, a = p.max(1), p.argmax(1) == y
    assert metrics.ece(p, y, **options) == pytest.approx(ece_by_hand(c, a, inner_edges(c, 7, binning), norm), abs=1e-12)
    by_class = [ece_by_hand(p[:, k], y == k, inner_edges(p[:, k], 7, binning), norm) for k in range(5)]
    assert metrics.ece(p, y, scope=3, **options) == pytest.approx(by_class[3], abs=1e-12)
    combined = {"l1": np.mean(by_class), "l2": np.mean(np.square(by_class)) ** 0.5, "max": np.max(by_class)}[norm]
    assert metrics.ece(p, y, scope="class-wise", **options) == pytest.approx(combined, abs=1e-12)


def test_equal_mass_bins_have_equal_counts_and_keep_ties_together():
    rng = np.random.default_rng(1)
    p = rng.random(600)
    assert set(metrics.reliability_curve(p, np.zeros(600, int), 15, scope=1).count) == {40}
    tied = np.repeat([0.1, 0.5, 0.5, 0.5, 0.9], 10)
    curve = metrics.reliability_curve(tied, np.zeros(50, int), 5, scope=1)
    assert curve.count.tolist() == [10, 30, 10]
    assert curve.confidence == pytest.approx([0.1, 0.5, 0.9])


def test_ties_that_fill_a_bin_have_one_of_their_own():
    """940 rows at 1.0 and 60 at 0.4: in a single bin their errors would cancel."""
    p = np.repeat([1.0, 0.4], [940, 60])
    y = np.concatenate([np.arange(940) >= 38, np.arange(60) < 36 + 24]).astype(int)
    curve = metrics.reliability_curve(p, y, scope=1)
    assert curve.count.tolist() == [60, 940]
    assert metrics.ece(p, y, scope=1) == pytest.approx((38 + 60 * 0.6) / 1000)
    weighted = metrics.binning.bin_edges(np.array([1.0, 0.4]), 15, "equal-mass", np.array([940.0, 60.0]))
    assert weighted.tolist() == curve.edges.tolist() == [0.0, 0.4, 1.0]


@pytest.mark.parametrize("decimals", [2, 3, 4])
def test_rounded_probabilities_are_accepted_with_one_warning(sample, decimals):
    p, y = sample(n=400, k=7)
    rounded = np.round(p, decimals)
    exact = rounded / rounded.sum(1, keepdims=True)
    if decimals < 4:
        with pytest.warns(UserWarning, match=f"rounded to {decimals} decimals") as caught:
            value = metrics.nll(rounded, y)
        assert len(caught) == 1
        assert value == pytest.approx(metrics.nll(exact, y), abs=1e-12)
    else:  # 7 numbers to four decimals sum to 1 within 1e-3
        metrics.brier(rounded, y)
    with pytest.raises(ValueError, match="sums to"):
        metrics.brier(np.where(np.arange(400)[:, None] == 7, 1.1, 1.0) * p, y)


@pytest.mark.parametrize("binning", ["equal-mass", "equal-width"])
def test_zero_and_one_are_in_the_outer_bins(binning):
    p, y = np.array([0.0, 0.0, 0.05, 0.95, 1.0, 1.0]), np.array([0, 0, 0, 1, 1, 1])
    curve = metrics.reliability_curve(p, y, 2, binning, scope=1)
    assert curve.count.tolist() == [3, 3]
    assert (curve.edges[0], curve.edges[-1]) == (0.0, 1.0)
    assert metrics.ece(np.array([0.0, 1.0]), np.array([0, 1]), bins=10, binning=binning, scope=1) == 0.0


def test_an_edge_belongs_to_the_bin_below_it_and_empty_bins_are_nan():
    curve = metrics.reliability_curve(np.array([0.5, 0.75, 1.0]), np.array([0, 1, 1]), 4, "equal-width", scope=1)
    assert curve.count.tolist() == [0, 1, 1, 1]
    assert np.isnan(curve.gap[0])
    assert curve.accuracy[1:].tolist() == [0.0, 1.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=6),
)
def test_aurc_is_the_mean_over_all_tie_orders(rows):
    total, orders = Fraction(0), 0
    for order in permutations(range(len(rows))):
        if any(rows[i][0] < rows[j][0] for i, j in pairwise(order)):
            continue  # not in order of falling confidence
        orders += 1
        wrong = [1 - int(rows[i][1]) for i in order]
        total += sum(Fraction(sum(wrong[: n + 1]), n + 1) for n in range(len(wrong))) / len(wrong)
    p = np.array([0.5 + c / 10 for c, _ in rows])
    y = np.array([int(right) for _, right in rows])
    assert metrics.aurc(p, y) == pytest.approx(float(total / orders), abs=1e-13)


def test_constant_confidence_has_the_error_as_its_aurc():
    y = np.array([0, 1, 1, 0, 1])
    assert metrics.aurc(np.full((5, 2), 0.5), y) == pytest.approx(0.6, abs=1e-14)


def test_an_exact_calibration_error_is_found():
    # 1,000 answers with confidence 0.8, of which 70% are right: the calibration error is 0.1 by construction.
    p = np.tile([0.8, 0.2], (1000, 1))
    y = (np.arange(1000) >= 700).astype(int)
    assert metrics.ece(p, y) == pytest.approx(0.1, abs=1e-12)
    assert metrics.confidence_gap(p, y) == pytest.approx(0.1, abs=1e-12)


def test_a_calibrated_sample_has_an_ece_of_noise_only(sample):
    p, y = sample(n=100_000, sharpness=1.0)
    c = p.max(1)
    noise = np.sqrt(2 * 15 / np.pi / 100_000 * (c * (1 - c)).mean())
    assert metrics.ece(p, y) < 2 * noise
    assert abs(metrics.confidence_gap(p, y)) < 4 * np.sqrt((c * (1 - c)).mean() / 100_000)


FUNCTIONS = [metrics.error, metrics.nll, metrics.brier, metrics.ece, metrics.confidence_gap, metrics.aurc]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_torch_in_torch_out_and_the_same_number(sample, function):
    p, y = sample()
    value = function(p, y)
    assert type(value) is float
    tensor = function(torch.from_numpy(p), torch.from_numpy(y))
    assert tensor.shape == ()
    assert tensor.dtype == torch.float64
    assert float(tensor) == value


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_logits_give_what_their_softmax_gives(sample, function, dtype):
    p, y = sample()
    z = (torch.from_numpy(p).log() * 3 + 7).to(dtype)
    expected = function(torch.softmax(z.double(), 1), torch.from_numpy(y))
    assert float(function(logits=z, labels=torch.from_numpy(y))) == pytest.approx(float(expected), rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_dense_predictions_and_ignored_positions_are_the_flat_ones(sample, function):
    p, y = sample(n=48)
    flat = function(p[:40], y[:40])
    labels = y.copy()
    labels[40:] = -1
    dense = p.reshape(4, 3, 4, 5).transpose(0, 3, 1, 2)
    assert function(dense, labels.reshape(4, 3, 4), ignore_index=-1) == pytest.approx(flat, abs=1e-14)
    assert function(p, labels, ignore_index=-1) == flat


@pytest.mark.parametrize("function", FUNCTIONS)
def test_binary_probabilities_are_two_columns(sample, function):
    p, y = sample(k=2)
    scale = 0.5 if function is metrics.brier else 1.0
    assert function(p[:, 1], y) == pytest.approx(scale * function(p, y), abs=1e-12)
    z = np.log(p[:, 1] / p[:, 0])
    assert function(logits=z, labels=y) == pytest.approx(scale * function(p, y), abs=1e-12)


def test_nll_of_an_impossible_label_is_infinite_and_of_tiny_logits_is_not():
    assert metrics.nll(np.array([[1.0, 0.0]]), np.array([1])) == np.inf
    assert metrics.nll(logits=np.array([[2000.0, 0.0]]), labels=np.array([1])) == 2000.0
    assert metrics.nll(logits=np.array([[5.0, 0.0, -np.inf]]), labels=np.array([0])) == pytest.approx(
        np.log1p(np.exp(-5))
    )


def test_brier_keeps_its_digits_for_confident_right_answers():
    p = np.array([[1.0 - 1e-9, 1e-9]])
    assert metrics.brier(p, np.array([0])) == pytest.approx(2e-18, rel=1e-6)


P, Y = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"probabilities": P}, "labels are missing"),
        ({"labels": Y}, "either probabilities or logits="),
        ({"probabilities": P, "logits": P, "labels": Y}, "either probabilities or logits="),
        ({"probabilities": np.array([[0.9, 0.2], [0.2, 0.8]]), "labels": Y}, "row 0 sums to 1.1"),
        (
            {"probabilities": np.array([[0.9, 0.1], [2.0, -1.0]]), "labels": Y},
            "row 1, class 0 is 2.*pass them as logits=",
        ),
        ({"probabilities": np.array([[0.9, 0.1], [np.nan, 0.8]]), "labels": Y}, "row 1, class 0 is nan"),
        ({"logits": np.array([[0.9, 0.1], [0.1, np.nan]]), "labels": Y}, "logits: row 1"),
        ({"logits": np.array([[0.9, 0.1], [-np.inf, -np.inf]]), "labels": Y}, "logits: row 1"),
        ({"probabilities": P, "labels": np.array([0, 2])}, "row 1 is 2, outside 0 to 1"),
        ({"probabilities": P, "labels": np.array([0, -100])}, "row 1 is -100.*ignore_index="),
        ({"probabilities": P, "labels": np.array([0, 1, 1])}, r"shape \(2, 2\) do not go with labels of shape \(3,\)"),
        ({"probabilities": P[:0], "labels": Y[:0]}, "empty"),
        ({"probabilities": P[:, :1] / P[:, :1], "labels": Y * 0}, "K = 1"),
    ],
)
def test_bad_input_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        metrics.ece(**arguments)


def test_types_that_are_not_numbers_are_refused():
    with pytest.raises(TypeError, match="labels must be integers"):
        metrics.error(P, Y.astype(float))
    with pytest.raises(TypeError, match="must be floating point"):
        metrics.error(P.round().astype(int), Y)
    with pytest.raises(TypeError, match="array or a tensor of numbers"):
        metrics.error(P.astype(object), Y)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bins": 0}, "bins must be"),
        ({"binning": "quantile"}, "binning must be"),
        ({"norm": "l3"}, "norm must be"),
        ({"scope": 2}, "class in 0 to 1"),
        ({"scope": "all"}, "scope must be"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        metrics.ece(P, Y, **options)


def test_a_dropped_row_is_named_by_its_own_number():
    with pytest.raises(ValueError, match="row 2 sums to"):
        metrics.error(np.array([[1.0, 0.0], [0.5, 0.5], [0.9, 0.9]]), np.array([-1, 0, 1]), ignore_index=-1)
