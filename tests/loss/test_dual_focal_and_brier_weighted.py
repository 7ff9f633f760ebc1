"""The losses with a weight of their own beside the focal loss: dual focal and Brier-weighted."""

from __future__ import annotations

import math

import pytest
import torch

import labelsmooth as ls

Z = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
LOSSES = [ls.dual_focal_loss, ls.brier_weighted_loss]
MODULES = [ls.DualFocalLoss, ls.BrierWeightedLoss]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def problem(scale: float = 4.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(30, 5, generator=generator, dtype=torch.float64), torch.arange(30) % 5


def gradient(loss, z, y, **options):
    leaf = z.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, y, **options), leaf)[0]


@each_loss
def test_gamma_zero_is_the_cross_entropy(loss) -> None:
    z, y = problem()
    torch.testing.assert_close(loss(z, y, gamma=0.0), ls.cross_entropy(z, y))
    torch.testing.assert_close(gradient(loss, z, y, gamma=0.0), gradient(ls.cross_entropy, z, y))


class TestDualFocal:
    @pytest.mark.parametrize(("label", "weight"), [(0, 1 - 0.5 + 0.3), (1, 1 - 0.3 + 0.2), (2, 1 - 0.2)])
    def test_by_hand(self, label, weight) -> None:
        """p_j is the next class below the label, wherever the label ranks."""
        value = ls.dual_focal_loss(Z, torch.tensor([label]), gamma=3.0).item()
        assert value == pytest.approx(-(weight**3) * Z[0, label].item())

    def test_a_class_equal_to_the_label_is_not_below_it(self) -> None:
        z = torch.tensor([[0.4, 0.4, 0.2]], dtype=torch.float64).log()
        assert ls.dual_focal_loss(z, torch.tensor([0]), gamma=2.0).item() == pytest.approx(-(0.8**2) * math.log(0.4))

    def test_of_a_label_below_all_classes_is_the_focal_loss(self) -> None:
        z, _ = problem()
        y = z.argmin(-1)
        torch.testing.assert_close(ls.dual_focal_loss(z, y, gamma=2.5), ls.focal_loss(z, y, gamma=2.5))
        torch.testing.assert_close(
            gradient(ls.dual_focal_loss, z, y, gamma=2.5), gradient(ls.focal_loss, z, y, gamma=2.5)
        )

    @pytest.mark.parametrize("gap", [5.0, 17.0, 40.0, 80.0])
    @pytest.mark.parametrize("gamma", [0.5, 3.0])
    def test_certain_predictions_keep_their_digits(self, gamma, gap) -> None:
        """Of two classes 1 - p_y + p_j = 2 (1 - p_y)."""
        z = torch.tensor([[gap, 0.0]], requires_grad=True)
        loss = ls.dual_focal_loss(z, torch.tensor([0]), gamma=gamma)
        loss.backward()
        q, nll = 1.0 / (1.0 + math.exp(gap)), math.log1p(math.exp(-gap))
        assert loss.item() == pytest.approx((2 * q) ** gamma * nll, rel=1e-5, abs=1e-38)
        expected = -((2 * q) ** gamma) * (gamma * (1 - q) * nll + q)
        assert z.grad is not None
        assert z.grad[0].tolist() == pytest.approx([expected, -expected], rel=1e-5, abs=1e-38)


class TestBrierWeighted:
    @pytest.mark.parametrize("label", [0, 1, 2])
    @pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 4.0])
    def test_by_hand(self, gamma, label) -> None:
        """Value u log(1 / p_y), gradient u (p - onehot(y))."""
        p, y = Z.exp()[0].tolist(), torch.tensor([label])
        difference = [p_k - (k == label) for k, p_k in enumerate(p)]
        weight = math.hypot(*difference) ** gamma
        assert ls.brier_weighted_loss(Z, y, gamma=gamma).item() == pytest.approx(-weight * math.log(p[label]))
        computed = gradient(ls.brier_weighted_loss, Z, y, gamma=gamma)[0].tolist()
        assert computed == pytest.approx([weight * d for d in difference])

    def test_the_weight_is_the_metric_of_the_package(self) -> None:
        z, y = problem()
        ratio = ls.brier_weighted_loss(z, y, reduction="none") / ls.cross_entropy(z, y, reduction="none")
        assert ratio.mean().item() == pytest.approx(float(ls.metrics.brier(logits=z, labels=y)), rel=1e-9)

    def test_of_two_classes_it_is_the_focal_weight_times_a_constant(self) -> None:
        z, y = problem()[0][:, :2], torch.arange(30) % 2
        loss = ls.brier_weighted_loss(z, y, gamma=3.0, reduction="none")
        torch.testing.assert_close(loss, 2**1.5 * ls.focal_loss(z, y, gamma=3.0, reduction="none"))


@pytest.mark.parametrize("gamma", [-1.0, math.nan, math.inf, "2", True, ((1.0, 2.0),)])
def test_gamma_out_of_range_raises(gamma) -> None:
    for call in (*MODULES, *(lambda gamma, loss=loss: loss(Z, torch.tensor([0]), gamma=gamma) for loss in LOSSES)):
        with pytest.raises(ValueError, match=r"gamma=.* must be a number in \[0, "):
            call(gamma)


def test_the_largest_weight_fits_the_gradient_of_half_precision() -> None:
    z = torch.tensor([[30.0, 0.0]], dtype=torch.float16)
    assert gradient(ls.brier_weighted_loss, z, torch.tensor([1]), gamma=30.0)[0].tolist() == [2.0**15, -(2.0**15)]
    with pytest.raises(ValueError, match=r"gamma=31 must be a number in \[0, 30\]"):
        ls.BrierWeightedLoss(31)
