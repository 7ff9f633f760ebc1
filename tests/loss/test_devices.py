"""Tensors on different devices: one sentence for every argument, and tables that follow the logits.  "meta" is a device
that every machine has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import labelsmooth as ls

LOGITS, LABELS = torch.randn(4, 3, device="meta"), torch.zeros(4, device="meta").long()
FEATURES, HEAD = torch.randn(4, 2, device="meta"), torch.randn(3, 2, device="meta")
HERE = torch.ones(4)  # on the CPU


def linear(weight: torch.Tensor = HEAD, target: torch.Tensor = LABELS, **options):
    return ls.linear_cross_entropy(FEATURES, weight, target, **options)


def tags(target: torch.Tensor = LOGITS, **options):
    return ls.binary_cross_entropy_with_logits(LOGITS, target, **options)


CALLS: dict[str, Callable[[], object]] = {
    "target": lambda: ls.cross_entropy(LOGITS, HERE.long()),
    "weight": lambda: ls.cross_entropy(LOGITS, LABELS, weight=HERE[:3]),
    "class_mask": lambda: ls.cross_entropy(LOGITS, LABELS, class_mask=HERE[:3] > 0),
    "label_smoothing": lambda: ls.cross_entropy(LOGITS, LABELS, label_smoothing=0.1 * HERE),
    "lam": lambda: ls.cross_entropy(LOGITS, ls.smoothing.mix(LABELS, LABELS, HERE)),
    "target of a mixture": lambda: ls.cross_entropy(LOGITS, ls.smoothing.mix(LABELS, HERE.long(), 0.3)),
    "the epsilon of the policy Uniform": lambda: ls.cross_entropy(
        LOGITS, LABELS, label_smoothing=ls.smoothing.Uniform(0.1 * HERE, "others", exclude=[0])
    ),
    "the epsilon of the policy Prior": lambda: ls.cross_entropy(
        LOGITS, LABELS, label_smoothing=ls.smoothing.Prior(0.1 * HERE, HERE[:3])
    ),
    "the target of the policy function": lambda: ls.cross_entropy(
        LOGITS, LABELS, label_smoothing=lambda labels, k: ls.Target(k, labels, 1 - 0.1 * HERE, 0.1)
    ),
    "target of focal": lambda: ls.focal_loss(LOGITS, HERE.long()),
    "linear_weight": lambda: linear(torch.ones(3, 2)),
    "linear_bias": lambda: linear(linear_bias=HERE[:3]),
    "target of linear": lambda: linear(target=HERE.long()),
    "class_mask of linear": lambda: linear(class_mask=HERE[:3] > 0),
    "target of tags": lambda: tags(torch.ones(4, 3)),
    "weight of tags": lambda: tags(weight=HERE[:3]),
    "pos_weight": lambda: tags(pos_weight=HERE[:3]),
    "label_smoothing of tags": lambda: tags(label_smoothing=0.1 * HERE[:3]),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_error_names_the_argument_and_both_devices(name: str) -> None:
    with pytest.raises(ValueError, match=r"is on cpu and input on meta; move .* to meta") as error:
        CALLS[name]()
    argument = name if name.startswith("the ") else name.split(" of ")[0]
    assert str(error.value).startswith(f"{argument} is on")


def test_a_single_number_may_be_on_the_cpu() -> None:
    assert ls.cross_entropy(LOGITS, LABELS, label_smoothing=torch.tensor(0.1)).is_meta
    assert ls.cross_entropy(LOGITS, ls.smoothing.mix(LABELS, LABELS, torch.tensor(0.3))).is_meta


@pytest.mark.parametrize("kind", ["prior", "matrix"])
def test_a_fixed_table_follows_the_logits_and_is_copied_once(kind: str) -> None:
    table = torch.rand(3) if kind == "prior" else torch.rand(3, 3)
    policy = ls.smoothing.Prior(0.1, table) if kind == "prior" else ls.smoothing.ClassMatrix(0.1, table)
    first, second = (policy(LABELS, 3).base for _ in range(2))
    assert first.is_meta
    assert first is second
    assert ls.cross_entropy(LOGITS, LABELS, label_smoothing=policy).is_meta
    (own,) = policy.buffers()
    own.mul_(1.0)  # a changed table is copied again
    assert policy(LABELS, 3).base is not first
    with torch.inference_mode():
        assert policy(LABELS, 3).base.is_inference()
    assert not policy(LABELS, 3).base.is_inference()
