"""ls.binary_cross_entropy_with_logits beside PyTorch's, and its smoothing by the formula."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

import labelsmooth as ls

GENERATOR = torch.Generator().manual_seed(0)
Z = 4 * torch.randn(6, 5, generator=GENERATOR, dtype=torch.float64)
Y = (torch.rand(6, 5, generator=GENERATOR) < 0.4).double()
WEIGHT, POS = torch.rand(6, 1, generator=GENERATOR).double(), 3 * torch.rand(5, generator=GENERATOR).double()


def loss_and_gradient(function, logits, *arguments, **options):
    logits = logits.clone().requires_grad_()
    loss = function(logits, *arguments, **options)
    (loss.double() * torch.arange(1, loss.numel() + 1).reshape(loss.shape)).sum().backward()
    return loss.detach(), logits.grad


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("weight", "pos_weight"), list(itertools.product([None, WEIGHT], [None, POS])))
def test_same_as_pytorch(weight, pos_weight, reduction) -> None:
    options = dict(weight=weight, pos_weight=pos_weight, reduction=reduction)
    for target in (Y, Y * 0.7 + 0.1):
        ours = loss_and_gradient(ls.binary_cross_entropy_with_logits, Z, target, **options)
        theirs = loss_and_gradient(F.binary_cross_entropy_with_logits, Z, target, **options)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("weight", "pos_weight"), list(itertools.product([None, WEIGHT], [None, POS])))
@pytest.mark.parametrize("label_smoothing", [0.1, 1.0, (0.3, 0.1), (0.0, 0.4), torch.linspace(0, 1, 5).double()])
def test_smoothed_by_the_formula(label_smoothing, weight, pos_weight) -> None:
    positive, negative = label_smoothing if isinstance(label_smoothing, tuple) else (label_smoothing,) * 2
    smooth = Y * (1 - positive / 2) + (1 - Y) * negative / 2
    s = Z.sigmoid()
    pos = 1.0 if pos_weight is None else pos_weight
    expected = -(pos * smooth * s.log() + (1 - smooth) * (1 - s).log()) * (1.0 if weight is None else weight)
    loss = ls.binary_cross_entropy_with_logits(
        Z, Y, weight, "none", pos_weight=pos_weight, label_smoothing=label_smoothing
    )
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)


def test_one_epsilon_is_uniform_smoothing_over_two_classes() -> None:
    """The logits (0, z) of a two-class softmax are the logit z of a sigmoid."""
    pair = torch.stack([torch.zeros_like(Z), Z], 1)
    expected = ls.cross_entropy(pair, Y.long(), label_smoothing=0.2)
    torch.testing.assert_close(ls.binary_cross_entropy_with_logits(Z, Y, label_smoothing=0.2), expected)


def test_gradient_is_s_minus_y() -> None:
    _, gradient = loss_and_gradient(
        lambda z: ls.binary_cross_entropy_with_logits(z, Y, reduction="sum", label_smoothing=0.2), Z
    )
    torch.testing.assert_close(gradient, Z.sigmoid() - (0.8 * Y + 0.1))


def test_first_and_second_derivatives() -> None:
    z = Z.clone().requires_grad_()
    y = (0.5 * Y + 0.2).requires_grad_()

    def loss(z, y):
        return ls.binary_cross_entropy_with_logits(z, y, WEIGHT, pos_weight=POS, label_smoothing=(0.3, 0.1))

    assert torch.autograd.gradcheck(loss, (z, y))
    assert torch.autograd.gradgradcheck(loss, (z, y))


class TestIgnored:
    def test_entries_do_not_count(self) -> None:
        ignored = torch.rand(6, 5) < 0.4
        target = Y.masked_fill(ignored, -1)
        logits = Z.masked_fill(ignored, torch.nan).requires_grad_()
        options = dict(weight=WEIGHT, pos_weight=POS, label_smoothing=0.1)
        loss = ls.binary_cross_entropy_with_logits(logits, target, ignore_index=-1, **options)
        losses = ls.binary_cross_entropy_with_logits(Z, Y, reduction="none", **options)
        torch.testing.assert_close(loss, losses[~ignored].mean())
        loss.backward()
        assert bool((logits.grad[ignored] == 0).all())
        assert bool(logits.grad[~ignored].isfinite().all())

    def test_none_left(self) -> None:
        target = torch.full((2, 3), -100)
        assert ls.binary_cross_entropy_with_logits(torch.zeros(2, 3), target).isnan()
        assert ls.binary_cross_entropy_with_logits(torch.zeros(2, 3), target, reduction="sum") == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(dtype) -> None:
    z = Z.to(dtype).requires_grad_()
    loss = ls.binary_cross_entropy_with_logits(z, Y.to(dtype), label_smoothing=0.1, pos_weight=POS.to(dtype))
    truth = ls.binary_cross_entropy_with_logits(
        z.detach().double(), Y, label_smoothing=0.1, pos_weight=POS.to(dtype).double()
    )
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), truth, rtol=1e-6, atol=1e-6)
    loss.backward()
    assert z.grad is not None
    assert z.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_targets_of_any_dtype(dtype) -> None:
    expected = ls.binary_cross_entropy_with_logits(Z, Y, label_smoothing=0.1)
    torch.testing.assert_close(ls.binary_cross_entropy_with_logits(Z, Y.to(dtype), label_smoothing=0.1), expected)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (dict(label_smoothing=1.5), ValueError, r"label_smoothing=1.5 is outside \[0, 1\]"),
        (dict(label_smoothing=(0.1, -0.1)), ValueError, r"label_smoothing\[1\] \(for negatives\)=-0.1 is outside"),
        (dict(label_smoothing=(0.1, 0.1, 0.1)), ValueError, "has 3 numbers; give one epsilon, or a pair"),
        (
            dict(label_smoothing=torch.rand(4)),
            ValueError,
            r"label_smoothing has shape \(4,\), which does not broadcast",
        ),
        (dict(label_smoothing="0.1"), TypeError, "is a str, not a number"),
        (dict(weight=torch.ones(4)), ValueError, r"weight has shape \(4,\), which does not broadcast"),
        (dict(weight=torch.ones(2, 6, 5)), ValueError, "weight has shape"),
        (dict(pos_weight=[1.0]), TypeError, "pos_weight is a list"),
        (dict(target=Y[:1]), ValueError, r"target has shape \(1, 5\) and input \(6, 5\)"),
        (dict(target=[0, 1]), TypeError, "target is a list"),
        (dict(input=Z.long()), TypeError, "must be floating: the logits, before any sigmoid"),
        (dict(target=Y.to(torch.complex64)), TypeError, "target has dtype torch.complex64"),
        (dict(reduction="avg"), ValueError, "reduction='avg' is unknown"),
    ],
)
def test_bad_input_is_refused(options, error, sentence) -> None:
    with pytest.raises(error, match=sentence):
        ls.binary_cross_entropy_with_logits(**{"input": Z, "target": Y, **options})
