"""The short way of the usual call: the same as the general one, which takes over wherever it cannot serve."""

from __future__ import annotations

import pytest
import torch

import labelsmooth as ls
from labelsmooth.kernels.usual import MOST_ELEMENTS, usual_loss

ROWS, CLASSES = 9, 37
LABELS = torch.arange(ROWS) % CLASSES
LABELS[4] = -100


def logits_of(dtype: torch.dtype = torch.float64, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(*(shape or (ROWS, CLASSES)), generator=generator, dtype=torch.float64)).to(dtype)


def taken(logits: torch.Tensor, labels: torch.Tensor = LABELS, epsilon: float = 0.1) -> bool:
    return usual_loss(logits, labels, -100, epsilon, True, False) is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_same_loss_and_gradient_as_the_general_way(dtype, reduction, epsilon) -> None:
    found = []
    for way in ("short", "general"):
        leaf = logits_of(dtype).requires_grad_()
        # A tensor of one epsilon is not for the short way.
        smoothing = epsilon if way == "short" else torch.tensor(epsilon, dtype=torch.float64)
        loss = ls.cross_entropy(leaf, LABELS, reduction=reduction, label_smoothing=smoothing)
        assert (loss.grad_fn.name() == "UsualBackward") == (way == "short")
        loss.backward()
        found.append((loss.detach(), leaf.grad))
    for short, general in zip(*found, strict=True):
        assert short.dtype == general.dtype
        assert torch.equal(short, general)
    with torch.no_grad():
        assert torch.equal(
            ls.cross_entropy(logits_of(dtype), LABELS, reduction=reduction, label_smoothing=epsilon), found[0][0]
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rows_with_a_stride_and_memory_of_ones_own(dtype: torch.dtype) -> None:
    wide = logits_of(dtype, ROWS, 2 * CLASSES)
    leaf = wide[:, :CLASSES].requires_grad_()
    assert not leaf.is_contiguous()
    assert taken(leaf)
    loss = ls.cross_entropy(leaf, LABELS, label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(loss, leaf)
    other = leaf.detach().contiguous().requires_grad_()
    (expected,) = torch.autograd.grad(ls.cross_entropy(other, LABELS, label_smoothing=0.1), other)
    assert torch.equal(gradient, expected)
    (within,) = torch.autograd.grad(ls.cross_entropy(leaf * 1, LABELS, label_smoothing=0.1, inplace=True), leaf)
    assert torch.equal(within, expected)


def test_upstream_gradients_second_derivatives_and_the_graph() -> None:
    leaf = logits_of().requires_grad_()
    for reduction in ("mean", "sum"):

        def loss(z: torch.Tensor) -> torch.Tensor:
            return 3 * ls.cross_entropy(z, LABELS, reduction=reduction, label_smoothing=0.1)  # noqa: B023

        assert torch.autograd.gradcheck(loss, leaf)
        assert torch.autograd.gradgradcheck(loss, leaf)
        value = loss(leaf)
        (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
        kept = first.clone()
        first.zero_()  # what was handed out is the caller's
        (second,) = torch.autograd.grad(value, leaf)
        assert torch.equal(second, kept)
        with pytest.raises(RuntimeError, match="second time"):
            value.backward()


def test_what_it_cannot_serve_goes_the_general_way() -> None:
    assert taken(logits_of())
    assert not taken(logits_of(), LABELS.int())
    assert not taken(logits_of(), torch.full((ROWS,), CLASSES))
    assert not taken(logits_of(), LABELS[:-1])
    assert not taken(logits_of(), epsilon=1.5)
    assert not taken(logits_of(), epsilon=float("nan"))
    assert not taken(logits_of(torch.float16))
    assert not taken(logits_of().to("meta"))
    assert not taken(logits_of(torch.float64, CLASSES, ROWS).t())
    assert not taken(logits_of()[:0], LABELS[:0])
    assert not taken(torch.zeros(1, MOST_ELEMENTS + 1), LABELS[:1])
    assert taken(torch.zeros(1, MOST_ELEMENTS), LABELS[:1])


def test_a_wrong_label_leaves_the_logits_as_they_are() -> None:
    leaf = logits_of().requires_grad_()
    logits = leaf * 1
    with pytest.raises(IndexError, match="label 37"):
        ls.cross_entropy(logits, LABELS.masked_fill(LABELS == 2, 37), label_smoothing=0.1, inplace=True)
    assert torch.equal(logits, leaf)


def test_all_ignored() -> None:
    leaf = logits_of().requires_grad_()
    loss = ls.cross_entropy(leaf, torch.full((ROWS,), -100), label_smoothing=0.1)
    loss.backward()
    assert loss.isnan()
    assert leaf.grad.count_nonzero() == 0
