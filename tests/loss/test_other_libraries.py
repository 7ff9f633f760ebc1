"""The numbers of docs/howto/migrate.md: the losses of other libraries, beside what replaces them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import labelsmooth as ls

EPSILON = 0.1
Pair = tuple[Callable[..., Any], Callable[..., Tensor]]


def timm_hard() -> Pair:
    from timm.loss import LabelSmoothingCrossEntropy

    return LabelSmoothingCrossEntropy(EPSILON), ls.LabelSmoothingCrossEntropy(EPSILON)


def timm_binary() -> Pair:
    from timm.loss import BinaryCrossEntropy

    def ours(z: Tensor, y: Tensor) -> Tensor:
        share = torch.nn.functional.one_hot(y, z.shape[1]) * (1 - EPSILON) + EPSILON / z.shape[1]
        return ls.binary_cross_entropy_with_logits(z, share)

    return BinaryCrossEntropy(EPSILON), ours


def timm_mixup() -> Pair:
    from timm.data.mixup import mixup_target
    from timm.loss import SoftTargetCrossEntropy

    def theirs(z: Tensor, y: Tensor) -> Tensor:
        return SoftTargetCrossEntropy()(z, mixup_target(y, z.shape[1], lam=0.7, smoothing=EPSILON))

    def ours(z: Tensor, y: Tensor) -> Tensor:
        return ls.cross_entropy(z, ls.smoothing.mix(y, y.flip(0), 0.7), label_smoothing=EPSILON)

    return theirs, ours


def fastai() -> Pair:
    from fastai.losses import LabelSmoothingCrossEntropy

    return LabelSmoothingCrossEntropy(eps=EPSILON), ls.LabelSmoothingCrossEntropy(EPSILON)


def transformers() -> Pair:
    from transformers.trainer_pt_utils import LabelSmoother

    def theirs(z: Tensor, y: Tensor) -> Tensor:
        return LabelSmoother(EPSILON)({"logits": z}, y)

    return theirs, ls.LabelSmoothingCrossEntropy(EPSILON)


def pytorch() -> Pair:
    weight = torch.arange(1.0, 6.0)
    return (
        torch.nn.CrossEntropyLoss(weight, label_smoothing=EPSILON),
        ls.LabelSmoothingCrossEntropy(EPSILON, weight=weight),
    )


@pytest.mark.parametrize("pair", [pytorch, timm_hard, timm_binary, timm_mixup, fastai, transformers])
def test_same_number_as_peer(pair: Callable[[], Pair]) -> None:
    z, y = 2 * torch.randn(6, 5), torch.randint(5, (6,))
    theirs, ours = pair()
    torch.testing.assert_close(ours(z, y), theirs(z, y))


def test_fastai_averages_smooth_part_by_rows() -> None:
    from fastai.losses import LabelSmoothingCrossEntropy

    z, y, weight = 2 * torch.randn(6, 5), torch.randint(5, (6,)), torch.arange(1.0, 6.0)
    theirs = LabelSmoothingCrossEntropy(eps=EPSILON, weight=weight)(z, y)
    by_rows = -z.log_softmax(-1).mean(-1).mean()
    hard = ls.cross_entropy(z, y, weight)
    torch.testing.assert_close(theirs, (1 - EPSILON) * hard + EPSILON * by_rows)
    assert not torch.isclose(theirs, ls.cross_entropy(z, y, weight, label_smoothing=EPSILON))
