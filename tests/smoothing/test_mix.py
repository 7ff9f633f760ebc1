"""Mixtures: the same loss as a dense target, smoothed once, beside timm's and torchvision's mixup, and in a batch."""

from __future__ import annotations

import labelsmooth.cpu_torchvision  # before timm and torchvision

import pytest
import torch
import torch.nn.functional as F
from cases import POLICIES, numbers

import labelsmooth as ls
from labelsmooth.smoothing import Uniform, mix

K = 10
LOGITS = 6 * numbers(6, K, seed=1) - 3
A, B = (K * numbers(6, seed=2)).long(), (K * numbers(6, seed=3)).long()


def onehot(labels):
    return F.one_hot(labels, K).double()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_is_pytorchs_loss_of_the_dense_mixture(reduction) -> None:
    dense = 0.7 * onehot(A) + 0.3 * onehot(B)
    expected = F.cross_entropy(LOGITS, dense, reduction=reduction, label_smoothing=0.1)
    by_loss = ls.LabelSmoothingCrossEntropy(0.1, reduction)(LOGITS, mix(A, B, 0.7))
    by_mixture = ls.LabelSmoothingCrossEntropy(0.0, reduction)(LOGITS, mix(A, B, 0.7, Uniform(0.1)))
    by_function = ls.cross_entropy(LOGITS, mix(A, B, 0.7), reduction=reduction, label_smoothing=0.1)
    torch.testing.assert_close(by_loss, expected)
    torch.testing.assert_close(by_function, expected)
    torch.testing.assert_close(by_mixture, expected)


@pytest.mark.parametrize("case", [c for c in POLICIES if c.name != "online"], ids=lambda case: case.name)
def test_every_policy(case) -> None:
    lam = numbers(6, seed=4)
    logits = LOGITS.clone().requires_grad_()
    loss = ls.LabelSmoothingCrossEntropy(case.make(A, K), "none")(logits, mix(A, B, lam))
    q = lam[:, None] * case.dense(onehot(A), K) + (1 - lam[:, None]) * case.dense(onehot(B), K)
    torch.testing.assert_close(loss, -(q * LOGITS.log_softmax(-1)).sum(-1), rtol=1e-7, atol=1e-7)
    loss.sum().backward()
    mass = q.sum(-1, keepdim=True)
    torch.testing.assert_close(logits.grad, mass * LOGITS.softmax(-1) - q, rtol=1e-7, atol=1e-7)


def test_smoothing_twice_raises() -> None:
    once = ls.LabelSmoothingCrossEntropy(0.1)(LOGITS, mix(A, B, 0.7))
    twice = F.cross_entropy(LOGITS, 0.9 * (0.7 * onehot(A) + 0.3 * onehot(B)) + 0.1 / K, label_smoothing=0.1)
    as_one = F.cross_entropy(LOGITS, 0.7 * onehot(A) + 0.3 * onehot(B), label_smoothing=1 - 0.9**2)
    torch.testing.assert_close(twice, as_one)
    assert abs(once - twice) > 1e-3
    with pytest.raises(ValueError, match="would smooth twice"):
        ls.LabelSmoothingCrossEntropy(0.1)(LOGITS, mix(A, B, 0.7, Uniform(0.1)))
    for options in ({"return_nll": True}, {"inplace": True}):
        with pytest.raises(ValueError, match="do not apply to a mixture"):
            ls.cross_entropy(LOGITS, mix(A, B, 0.7), **options)


@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_timms_mixup(mode) -> None:
    """timm mixes the batch with its reverse; its dense target, smoothed here or there, and ours from the labels."""
    import timm.data

    images = torch.rand(6, 3, 4, 4)
    for theirs, ours in ((0.0, 0.1), (0.1, 0.0)):
        torch.manual_seed(0)
        mixup = timm.data.Mixup(mixup_alpha=0.8, mode=mode, label_smoothing=theirs, num_classes=K)
        _, dense = mixup(images.clone(), A)
        plain = dense if theirs == 0 else (dense - 0.1 / K) / 0.9
        share = plain.gather(1, A[:, None]).squeeze(1)
        lam = torch.where(A.flip(0) == A, 1.0, share).double()
        loss = ls.cross_entropy(LOGITS, dense.double(), label_smoothing=ours)
        from_labels = ls.LabelSmoothingCrossEntropy(0.1)(LOGITS, mix(A, A.flip(0), lam))
        torch.testing.assert_close(from_labels, loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("transform", ["MixUp", "CutMix"])
def test_torchvisions_mixup_and_cutmix(transform) -> None:
    """torchvision mixes the batch with itself rolled by one."""
    from torchvision.transforms import v2

    torch.manual_seed(0)
    _, dense = getattr(v2, transform)(num_classes=K)(torch.rand(6, 3, 8, 8), A)
    share = dense.gather(1, A[:, None]).squeeze(1)
    lam = torch.where(A.roll(1) == A, 1.0, share).double()
    loss = ls.cross_entropy(LOGITS, dense.double(), label_smoothing=0.1)
    from_labels = ls.LabelSmoothingCrossEntropy(0.1)(LOGITS, mix(A, A.roll(1), lam))
    torch.testing.assert_close(from_labels, loss, rtol=1e-5, atol=1e-6)


def test_class_weights_and_ignored_labels() -> None:
    weight = numbers(K, seed=6)
    a = A.clone()
    a[2] = -100
    lam = numbers(6, seed=4)
    loss = ls.LabelSmoothingCrossEntropy(0.2, weight=weight)(LOGITS, mix(a, B, lam))
    share = torch.where(a >= 0, lam, 0.0)
    losses = [ls.cross_entropy(LOGITS, y, weight, reduction="none", label_smoothing=0.2) for y in (a, B)]
    worth = share * weight[a.clamp(min=0)] + (1 - lam) * weight[B]
    torch.testing.assert_close(loss, (share * losses[0] + (1 - lam) * losses[1]).sum() / worth.sum())


def test_mean_of_one_label_is_the_plain_mean() -> None:
    criterion = ls.LabelSmoothingCrossEntropy(0.1, weight=numbers(K, seed=6))
    torch.testing.assert_close(criterion(LOGITS, mix(A, B, 1.0)), criterion(LOGITS, A))
    torch.testing.assert_close(criterion(LOGITS, mix(A, B, 0.0)), criterion(LOGITS, B))


def test_a_label_with_share_zero_may_have_an_infinite_loss() -> None:
    logits = torch.tensor([[0.0, -torch.inf]])
    loss = ls.LabelSmoothingCrossEntropy(0.0)(logits, mix(torch.tensor([0]), torch.tensor([1]), 1.0))
    assert loss == 0


def test_dense_prediction() -> None:
    logits, a, b = numbers(2, K, 3, seed=7), torch.randint(K, (2, 3)), torch.randint(K, (2, 3))
    lam = numbers(2, 3, seed=8)
    loss = ls.LabelSmoothingCrossEntropy(0.1, "none")(logits, mix(a, b, lam))
    losses = [ls.cross_entropy(logits, y, reduction="none", label_smoothing=0.1) for y in (a, b)]
    torch.testing.assert_close(loss, lam * losses[0] + (1 - lam) * losses[1])


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((A.float(), B, 0.5), TypeError, r"y_a is torch.float32; give integer labels"),
        ((A, [1, 2], 0.5), TypeError, "y_b is list; give integer labels"),
        ((A, B[:3], 0.5), ValueError, r"y_a has shape \(6,\) and y_b \(3,\)"),
        ((A, B, 1.5), ValueError, r"lam=1.5 is outside \[0, 1\]"),
        ((A, B, float("nan")), ValueError, "lam=nan"),
        ((A, B, "half"), TypeError, "lam is a str; give a number"),
        ((A, B, torch.rand(3)), ValueError, r"lam has shape \(3,\)"),
        ((A, B, torch.full((6,), 2.0)), ValueError, r"outside \[0, 1\], between 2.0 and 2.0"),
    ],
)
def test_errors(arguments, error, sentence) -> None:
    with pytest.raises(error, match=sentence):
        mix(*arguments)


class TestInABatch:
    """A mixture that a collate_fn makes is moved with the batch."""

    mixture = mix(A, B, torch.rand(6), Uniform(0.1))

    def test_lightning_moves_it(self) -> None:
        from lightning.fabric.utilities.apply_func import move_data_to_device

        images, moved = move_data_to_device((torch.zeros(6, 2), self.mixture), torch.device("meta"))
        assert images.device.type == "meta"
        assert [moved.a.device.type, moved.b.device.type, moved.lam.device.type] == ["meta"] * 3
        assert moved.policy is self.mixture.policy
        assert mix(A, B, 0.7).to("meta").lam == 0.7

    def test_a_loader_pins_it(self, monkeypatch) -> None:
        from torch.utils.data._utils.pin_memory import pin_memory

        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor + 0)  # which needs a GPU
        _, pinned = pin_memory((torch.zeros(6, 2), self.mixture))
        assert pinned is not self.mixture
        assert torch.equal(pinned.a, A)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_a_small_type_keep_their_class(dtype) -> None:
    """-100 in uint8 is 156, which is a class of its own here."""
    logits = torch.randn(2, 200, dtype=torch.float64)
    labels = torch.tensor([156, 3]) if dtype == torch.uint8 else torch.tensor([100, 3])
    criterion = ls.LabelSmoothingCrossEntropy(0.1, penalty=ls.penalty.poly1)
    expected = criterion(logits, mix(labels, labels.flip(0), 0.3))
    torch.testing.assert_close(criterion(logits, mix(labels.to(dtype), labels.flip(0).to(dtype), 0.3)), expected)
    torch.testing.assert_close(expected, 0.3 * criterion(logits, labels) + 0.7 * criterion(logits, labels.flip(0)))
