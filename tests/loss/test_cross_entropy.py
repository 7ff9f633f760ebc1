"""ls.cross_entropy beside F.cross_entropy: the same numbers and gradients, and decided outcomes where PyTorch errs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from cases import CASES, DTYPES, REDUCTIONS, Case

import labelsmooth as ls


def loss_and_gradient(function, logits, target, options, reduction):
    logits = logits.clone().requires_grad_()
    loss = function(logits, target, reduction=reduction, **options)
    # An uneven upstream gradient, so that each row's own scale is seen.
    (loss.double() * torch.arange(1, loss.numel() + 1).reshape(loss.shape)).sum().backward()
    return loss.detach(), logits.grad


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_pytorch_in_float64(case: Case, reduction: str) -> None:
    logits, target, options = case.make(torch.float64)
    ours = loss_and_gradient(ls.cross_entropy, logits, target, options, reduction)
    theirs = loss_and_gradient(F.cross_entropy, logits, target, options, reduction)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_error_is_at_most_pytorchs_in_the_same_dtype(case: Case, dtype: torch.dtype) -> None:
    logits, target, options = case.make(dtype)
    widen = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    wide_target = target.double() if target.is_floating_point() else target
    truth = loss_and_gradient(F.cross_entropy, logits.double(), wide_target, widen, "none")
    ours = loss_and_gradient(ls.cross_entropy, logits, target, options, "none")
    theirs = loss_and_gradient(F.cross_entropy, logits, target, options, "none")
    assert ours[0].dtype == torch.float32
    assert ours[1].dtype == dtype
    for mine, other, true in zip(ours, theirs, truth, strict=True):
        if not true.numel():
            continue
        allowed = (other.double() - true).abs().amax() + torch.finfo(other.dtype).eps * true.abs() + 1e-12
        assert bool(((mine.double() - true).abs() <= allowed).all())


@pytest.mark.parametrize("index_dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_labels_of_any_integer_dtype(index_dtype: torch.dtype) -> None:
    logits, target = torch.randn(6, 4), torch.arange(6) % 4
    assert torch.equal(ls.cross_entropy(logits, target.to(index_dtype)), ls.cross_entropy(logits, target))


@pytest.mark.parametrize("index_dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8], ids=str)
@pytest.mark.parametrize("ignore_index", [-100, 2, 156, 300])
def test_an_ignore_index_that_the_labels_dtype_cannot_hold(index_dtype: torch.dtype, ignore_index: int) -> None:
    """-100 is 156 in uint8, where a class or the entries of a tag would drop out."""
    logits, target = torch.randn(6, 200), torch.tensor([0, 1, 2, 3, 100, 120])
    if index_dtype != torch.int8:
        target[5] = 156
    narrow = target.to(index_dtype)
    expected = F.cross_entropy(logits, target, ignore_index=ignore_index)
    torch.testing.assert_close(ls.cross_entropy(logits, narrow, ignore_index=ignore_index), expected)
    module = ls.LabelSmoothingCrossEntropy(0.1, ignore_index=ignore_index, penalty=ls.penalty.margin)
    mixtures = [ls.smoothing.mix(labels, labels.flip(0), 0.3) for labels in (target, narrow)]
    torch.testing.assert_close(module(logits, mixtures[1]), module(logits, mixtures[0]))
    tags = [
        torch.where(labels == 156, labels, labels.clamp(max=1))[:, None].expand(6, 200) for labels in (target, narrow)
    ]
    binary = [ls.binary_cross_entropy_with_logits(logits, t, ignore_index=ignore_index) for t in tags]
    torch.testing.assert_close(*binary)


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_default_dtype_does_not_change_the_loss(default: torch.dtype) -> None:
    logits, target, weight = torch.randn(6, 7, dtype=torch.float64), torch.arange(6), torch.rand(7, dtype=torch.float64)
    mask = torch.arange(7) != 6
    calls = [
        lambda: ls.cross_entropy(logits, target, label_smoothing=0.1),
        lambda: ls.cross_entropy(logits.float(), target, weight.float(), label_smoothing=0.1),
        lambda: ls.cross_entropy(logits, target, weight, label_smoothing=0.1, class_mask=mask, reduction="none"),
        lambda: ls.cross_entropy(logits, ls.smoothing.mix(target, target.flip(0), 0.3), label_smoothing=0.1),
        lambda: ls.linear_cross_entropy(logits, torch.eye(7, dtype=torch.float64), target, label_smoothing=0.1),
        lambda: ls.binary_cross_entropy_with_logits(logits, logits > 0, label_smoothing=0.1),
    ]
    expected = [call() for call in calls]
    torch.set_default_dtype(default)
    try:
        results = [call() for call in calls]
    finally:
        torch.set_default_dtype(torch.float32)
    for mine, other in zip(results, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12 if mine.dtype == torch.float64 else 1e-6, atol=0)


def test_a_class_mask_in_float64_is_exact() -> None:
    """The share of the valid classes, 6 of 7, is not rounded to float32."""
    logits, target = torch.randn(4, 7, dtype=torch.float64), torch.arange(4)
    loss = ls.cross_entropy(logits, target, label_smoothing=0.3, class_mask=torch.arange(7) != 6)
    expected = F.cross_entropy(logits[:, :6], target, label_smoothing=0.3)
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)


def test_gradient_reaches_a_probability_target() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64)
    q = torch.rand(3, 4, dtype=torch.float64).softmax(-1)
    grads = []
    for function in (ls.cross_entropy, F.cross_entropy):
        leaf = q.clone().requires_grad_()
        function(logits, leaf, label_smoothing=0.1).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(*grads)


def test_the_unsmoothed_loss_of_probabilities_where_the_gradient_overwrites_the_logits() -> None:
    leaf, target = torch.randn(4, 5, requires_grad=True), torch.rand(4, 5).softmax(1)
    _, unsmoothed = ls.cross_entropy(leaf * 1, target, label_smoothing=0.1, return_nll=True, inplace=True)
    torch.testing.assert_close(unsmoothed, F.cross_entropy(leaf.detach(), target))


@pytest.mark.parametrize("over", ["all", "others"])
def test_one_epsilon_for_each_label(over: str) -> None:
    logits, target = torch.randn(2, 5, 3, dtype=torch.float64), torch.randint(5, (2, 3))
    epsilon = torch.rand(2, 3, dtype=torch.float64)
    losses = ls.cross_entropy(logits, target, reduction="none", label_smoothing=ls.smoothing.Uniform(epsilon, over))
    for i in range(2):
        for j in range(3):
            policy = ls.smoothing.Uniform(float(epsilon[i, j]), over)
            alone = ls.cross_entropy(logits[i, :, j], target[i, j], label_smoothing=policy)
            torch.testing.assert_close(losses[i, j], alone)
    if over == "all":
        plain = ls.cross_entropy(logits, target, reduction="none", label_smoothing=epsilon)
        torch.testing.assert_close(losses, plain)


@pytest.mark.parametrize("grad", [False, True], ids=["kernel", "reference"])
def test_the_loss_has_the_logits_dtype_whatever_epsilon_has(grad: bool) -> None:
    logits, target = torch.randn(3, 4), torch.tensor([0, 1, 2])
    epsilon = torch.full((3,), 0.1, dtype=torch.float64, requires_grad=grad)  # an epsilon to learn takes the reference
    assert ls.cross_entropy(logits, target, label_smoothing=epsilon).dtype == torch.float32
    q = torch.full((3, 4), 0.25, dtype=torch.float64, requires_grad=grad)
    assert ls.cross_entropy(logits, q).dtype == torch.float32


class TestDecidedOutcomes:
    """Where the inputs are degenerate the outcome is stated in the docstring, and held here."""

    def test_no_label_at_all(self) -> None:
        for logits, target in (
            (torch.zeros(0, 3), torch.zeros(0).long()),
            (torch.zeros(2, 3), torch.tensor([-100] * 2)),
        ):
            assert ls.cross_entropy(logits, target, label_smoothing=0.1).isnan()
            assert ls.cross_entropy(logits, target, reduction="sum", label_smoothing=0.1) == 0
            assert ls.cross_entropy(logits, target, reduction="none").tolist() == [0.0] * len(target)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    @pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0)], ids=str)
    def test_the_gradient_of_an_empty_batch_is_empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, reduction: str
    ) -> None:
        leaf = torch.zeros(shape, dtype=dtype, requires_grad=True)
        target = torch.zeros(shape[:1] + shape[2:]).long()
        ls.cross_entropy(leaf, target, label_smoothing=0.1, reduction=reduction).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.shape == shape

    def test_one_class_costs_nothing(self) -> None:
        assert ls.cross_entropy(torch.tensor([[3.0]]), torch.tensor([0]), label_smoothing=0.5) == 0
        with pytest.raises(ValueError, match='over="others" needs at least 2 classes'):
            ls.cross_entropy(torch.zeros(1, 1), torch.tensor([0]), label_smoothing=ls.smoothing.Uniform(0.1, "others"))

    def test_an_ignored_row_may_hold_anything(self) -> None:
        logits = torch.tensor([[1.0, 2.0], [float("nan"), float("inf")]], requires_grad=True)
        loss = ls.cross_entropy(logits, torch.tensor([0, -100]), label_smoothing=0.1)
        loss.backward()
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad[1].tolist() == [0.0, 0.0]

    def test_a_nan_stays_in_its_row(self) -> None:
        logits = torch.zeros(3, 4)
        logits[1, 2] = torch.nan
        loss = ls.cross_entropy(logits, torch.tensor([0, 1, 2]), reduction="none", label_smoothing=0.1)
        assert loss.isnan().tolist() == [False, True, False]

    def test_a_logit_of_minus_infinity_off_the_label(self) -> None:
        logits = torch.tensor([[0.0, 1.0, -torch.inf]])
        label = torch.tensor([0])
        assert ls.cross_entropy(logits, label) == F.cross_entropy(logits, label)
        assert ls.cross_entropy(logits, label, label_smoothing=0.1) == torch.inf
        losses = ls.cross_entropy(logits.expand(2, 3), label.expand(2), None, -100, "none", torch.tensor([0.0, 0.1]))
        assert losses.isfinite().tolist() == [True, False]

    def test_logits_of_ten_thousand_lose_no_digits(self) -> None:
        logits = torch.tensor([[10000.0, 9999.0, 9990.0]])
        exact = F.cross_entropy(logits.double(), torch.tensor([1]), label_smoothing=0.1)
        assert abs(ls.cross_entropy(logits, torch.tensor([1]), label_smoothing=0.1) - exact) < 1e-6


ROWS, LABELS = torch.zeros(2, 3), torch.tensor([0, 2])
BAD_CALLS = {
    "epsilon above 1": (dict(label_smoothing=1.5), ValueError, r"label_smoothing=1.5 is outside \[0, 1\]"),
    "epsilon below 0": (dict(label_smoothing=-0.1), ValueError, r"label_smoothing=-0.1 is outside \[0, 1\]"),
    "epsilon NaN": (dict(label_smoothing=float("nan")), ValueError, r"label_smoothing=nan is outside"),
    "epsilon a word": (dict(label_smoothing="0.1"), TypeError, r"label_smoothing='0.1' is a str, not a number"),
    "epsilon a bool": (dict(label_smoothing=True), TypeError, r"label_smoothing=True is a bool"),
    "epsilon tensor out of range": (dict(label_smoothing=torch.tensor([0.1, 2.0])), ValueError, "holds 2.0"),
    "epsilon tensor NaN": (dict(label_smoothing=torch.tensor([0.1, torch.nan])), ValueError, "holds nan"),
    "epsilon tensor of integers": (dict(label_smoothing=torch.tensor([0, 1])), TypeError, "must be floating"),
    "epsilon of the wrong shape": (dict(label_smoothing=torch.tensor([0.1] * 3)), ValueError, r"shape \(2,\)"),
    "label too large": (dict(target=torch.tensor([0, 3])), IndexError, r"label 3 .* labels must be in \[0, 3\)"),
    "label negative": (dict(target=torch.tensor([-1, 0])), IndexError, r"label -1 .* ignore_index=-1"),
    "labels floating": (
        dict(target=torch.tensor([0.0, 1.0])),
        TypeError,
        r"dtype is torch.float32.*integers in \[0, 3\)",
    ),
    "labels bool": (dict(target=torch.tensor([True, False])), TypeError, "dtype is torch.bool"),
    "labels of the wrong length": (dict(target=torch.tensor([0])), ValueError, r"labels of shape \(2,\)"),
    "integer probabilities": (dict(target=torch.zeros(2, 3).long()), TypeError, "read as class probabilities"),
    "target a list": (dict(target=[0, 2]), TypeError, "target is a list"),
    "logits of integers": (dict(input=torch.zeros(2, 3).long()), TypeError, "must be floating: the logits"),
    "logits a number": (dict(input=torch.tensor(1.0)), ValueError, "input has no dimension"),
    "no classes": (dict(input=torch.zeros(2, 0)), ValueError, "has no classes"),
    "reduction unknown": (dict(reduction="avg"), ValueError, "reduction='avg' is unknown"),
    "weight of the wrong length": (dict(weight=torch.ones(2)), ValueError, r"one weight for each class, shape \(3,\)"),
    "weight a list": (dict(weight=[1.0, 1.0, 1.0]), TypeError, "weight is a list"),
    "ignore_index a tensor": (dict(ignore_index=torch.tensor(1)), TypeError, r"ignore_index=tensor\(1\) is a Tensor"),
    "ignore_index a float": (dict(ignore_index=1.0), TypeError, r"ignore_index=1.0 is a float; give an int"),
    "ignore_index None": (dict(ignore_index=None), TypeError, r"ignore_index=None is a NoneType; give an int"),
    "z_loss None": (dict(z_loss=None), TypeError, r"z_loss=None is a NoneType; give a number"),
    "z_loss a word": (dict(z_loss="1e-4"), TypeError, r"z_loss='1e-4' is a str"),
    "z_loss NaN": (dict(z_loss=float("nan")), ValueError, r"z_loss=nan is outside"),
    "reduction None": (dict(reduction=None), ValueError, r"reduction=None is unknown"),
    "epsilon a complex number": (dict(label_smoothing=0.1j), TypeError, r"is a complex, not a number"),
    "ignore_index with probabilities": (
        dict(target=torch.ones(2, 3) / 3, ignore_index=1),
        ValueError,
        "does not apply",
    ),
}


@pytest.mark.parametrize(("options", "error", "sentence"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_is_refused(options, error, sentence) -> None:
    with pytest.raises(error, match=sentence):
        ls.cross_entropy(**{"input": ROWS, "target": LABELS, **options})


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ValueError, match="over='some' is not a convention"):
        ls.smoothing.Uniform(0.1, over="some")
