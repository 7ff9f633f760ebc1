"""weight_by="label": the row weighs what its label weighs, and the smoothed share is left alone."""

from __future__ import annotations

import pytest
import torch

import labelsmooth as ls
from labelsmooth import smoothing

WEIGHT = torch.tensor([1.0, 4.0, 0.25])


def rows(count: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(3, (count,), generator=draw)
    labels[1] = -100
    return logits, labels


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smooth", [0.0, 0.2, smoothing.Uniform(0.2, over="others")], ids=str)
def test_each_row_weighs_what_its_label_weighs(smooth, reduction: str) -> None:
    logits, labels = rows()
    row = ls.cross_entropy(logits, labels, reduction="none", label_smoothing=smooth)
    of_row = torch.where(labels >= 0, WEIGHT.double()[labels.clamp(min=0)], 0.0)
    weighted = row * of_row
    expected = {"mean": weighted.sum() / of_row.sum(), "sum": weighted.sum(), "none": weighted}[reduction]
    options = {"reduction": reduction, "label_smoothing": smooth, "weight_by": "label"}
    loss, nll = ls.cross_entropy(logits, labels, WEIGHT, **options, return_nll=True)
    torch.testing.assert_close(loss, expected)
    plain = ls.cross_entropy(logits, labels, WEIGHT, reduction=reduction)  # without smoothing both weigh alike
    torch.testing.assert_close(nll, plain.detach())
    (ours,), (theirs,) = (torch.autograd.grad(value.sum(), logits, retain_graph=True) for value in (loss, expected))
    torch.testing.assert_close(ours, theirs)
    module = ls.LabelSmoothingCrossEntropy(smooth, reduction, weight=WEIGHT, weight_by="label")
    torch.testing.assert_close(module(logits, labels), expected)


def test_pytorchs_way_weighs_the_smoothed_share_too() -> None:
    logits, labels = rows()
    by_class = ls.cross_entropy(logits, labels, WEIGHT.double(), label_smoothing=0.2)
    theirs = torch.nn.functional.cross_entropy(logits, labels, WEIGHT.double(), label_smoothing=0.2)
    torch.testing.assert_close(by_class, theirs)
    assert not torch.allclose(
        by_class, ls.cross_entropy(logits, labels, WEIGHT, label_smoothing=0.2, weight_by="label")
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_one_hot_probabilities_and_mixtures_agree_with_labels(reduction: str) -> None:
    logits, labels = rows()
    logits, labels = logits[2:], labels[2:]
    options = {"reduction": reduction, "label_smoothing": 0.2, "weight_by": "label"}
    expected = ls.cross_entropy(logits, labels, WEIGHT, **options)
    probabilities = torch.nn.functional.one_hot(labels, 3).double()
    torch.testing.assert_close(ls.cross_entropy(logits, probabilities, WEIGHT, **options), expected)
    torch.testing.assert_close(
        ls.cross_entropy(logits, smoothing.mix(labels, labels, 0.3), WEIGHT, **options), expected
    )


def test_another_word_is_refused() -> None:
    logits, labels = rows()
    with pytest.raises(ValueError, match=r'weight_by=\'row\' is unknown; use "class" or "label"'):
        ls.cross_entropy(logits, labels, WEIGHT, weight_by="row")
