"""The focal loss: values by hand, a gamma for each example, and certain predictions."""

from __future__ import annotations

import math

import pytest
import torch

from labelsmooth import FocalLoss, cross_entropy, focal_loss

Z = torch.tensor([[math.log(1.0), math.log(9.0)]])  # p = 0.1, 0.9
LOW, HIGH = torch.tensor([0]), torch.tensor([1])


def test_values_by_hand() -> None:
    assert focal_loss(Z, LOW).item() == pytest.approx(-(0.9**5) * math.log(0.1), rel=1e-5)
    assert focal_loss(Z, HIGH).item() == pytest.approx(-(0.1**3) * math.log(0.9), rel=1e-5)
    assert focal_loss(Z, LOW, gamma=1.0).item() == pytest.approx(-0.9 * math.log(0.1), rel=1e-5)


def test_gamma_zero_is_the_cross_entropy() -> None:
    z = 5 * torch.randn(9, 4, dtype=torch.float64)
    y = torch.arange(9) % 4
    torch.testing.assert_close(focal_loss(z, y, gamma=0.0), cross_entropy(z, y))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("gap", [0.0, 10.0, 17.0, 40.0, 200.0, 1e4, -17.0, -1e4])
def test_gradient_of_any_logit_gap_is_that_of_the_sigmoid_form(gamma: float, gap: float) -> None:
    """For two classes p_y = sigmoid(gap), and the derivative by the gap is worked out by hand in the log domain."""
    z = torch.tensor([[gap, 0.0]], requires_grad=True)
    focal_loss(z, torch.tensor([0]), gamma=gamma).backward()
    p, q = 1.0 / (1.0 + math.exp(min(-gap, 700.0))), 1.0 / (1.0 + math.exp(min(gap, 700.0)))
    nll = math.log1p(math.exp(-gap)) if gap > -30 else -gap
    expected = -(q**gamma) * (gamma * p * nll + q)
    assert z.grad is not None
    assert z.grad[0].tolist() == pytest.approx([expected, -expected], rel=1e-5, abs=1e-38)


def test_the_only_class_has_no_loss_and_no_gradient() -> None:
    for gamma in (0.0, 0.5, 3.0):
        z = torch.tensor([[3.0]], requires_grad=True)
        loss = focal_loss(z, LOW, gamma=gamma)
        loss.backward()
        assert loss == 0
        assert z.grad == 0


@pytest.mark.parametrize(
    ("gamma", "sentence"),
    [
        (-1.0, r"gamma=-1.0 must be a number in \[0, 1e\+06\]"),
        (math.nan, "gamma=nan"),
        ([(0.5, 1.0)], "whose bounds rise from above 0 to 1"),
        ([(0.5, 1.0), (0.2, 1.0), (1.0, 0.0)], "whose bounds rise"),
        (torch.ones(3), "must be a number or steps"),
        ("2", "must be a number or steps"),
    ],
)
def test_gamma_out_of_range_raises(gamma, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        focal_loss(Z, LOW, gamma=gamma)
    with pytest.raises(ValueError, match=sentence):
        FocalLoss(gamma)
