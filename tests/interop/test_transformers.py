"""The Trainer's loss: against F.cross_entropy, with the Trainer's own way of counting and of shifting."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from labelsmooth import smoothing
from labelsmooth.interop.transformers import make_loss

B, T, K = 3, 5, 7


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(B, T, K, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(K, (B, T), generator=generator)
    labels[0, 3:] = -100  # padding
    labels[2, :2] = -100  # a prompt
    return logits, labels


def expected(logits: torch.Tensor, labels: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    return F.cross_entropy(logits.reshape(-1, K), labels.reshape(-1), label_smoothing=0.1, reduction=reduction)


@pytest.mark.parametrize("form", ["record", "dict", "tuple"])
def test_labels_beside_logits(batch: tuple[torch.Tensor, torch.Tensor], form: str) -> None:
    logits, labels = batch
    outputs = {"record": SimpleNamespace(logits=logits), "dict": {"logits": logits}, "tuple": (logits, None)}[form]
    torch.testing.assert_close(make_loss(0.1)(outputs, labels), expected(logits, labels))


def test_a_causal_model_speaks_for_the_next_label(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    loss = make_loss(0.1, causal=True)(SimpleNamespace(logits=logits), labels)
    right = expected(logits[:, :-1], labels[:, 1:])
    torch.testing.assert_close(loss, right)
    (ours,) = torch.autograd.grad(loss, logits)
    (theirs,) = torch.autograd.grad(right, logits)
    torch.testing.assert_close(ours, theirs)
    assert (ours[:, -1] == 0).all()  # nothing follows the last position


def test_accumulated_batches_weigh_every_token_alike(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    count = (labels != -100).sum()
    loss = make_loss(0.1)
    parts = [loss({"logits": logits[k : k + 1]}, labels[k : k + 1], num_items_in_batch=count) for k in range(B)]
    torch.testing.assert_close(sum(parts), expected(logits, labels))


def test_a_classifier_and_a_policy() -> None:
    logits, labels = torch.randn(6, K), torch.arange(6)
    loss = make_loss(smoothing.Uniform(0.1, over="others"))({"logits": logits}, labels)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.1 * K / (K - 1)))


def test_labels_of_a_small_type_keep_their_class() -> None:
    """-100 in uint8 is 156, which is a class of its own here."""
    outputs, labels = SimpleNamespace(logits=torch.randn(2, 200)), torch.tensor([156, 3])
    loss = make_loss(0.1)
    torch.testing.assert_close(loss(outputs, labels.to(torch.uint8)), loss(outputs, labels))


def test_bad_arguments_raise(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = batch
    with pytest.raises(ValueError, match=r"epsilon.*1\.5"):
        make_loss(1.5)
    with pytest.raises(ValueError, match=r"labels have shape \(3, 4\) .* expected \(3, 5\)"):
        make_loss(0.1, causal=True)({"logits": logits}, labels[:, 1:])
