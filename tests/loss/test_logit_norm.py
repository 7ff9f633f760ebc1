"""Logit normalisation: the length of the logits, zero logits, and the range of the temperature."""

from __future__ import annotations

import pytest
import torch

from labelsmooth import LogitNormLoss, cross_entropy, logit_norm_loss, normalize_logits


def test_normalized_logits_have_one_length() -> None:
    z = 8 * torch.randn(3, 5, 2, dtype=torch.float64)
    y = torch.tensor([[0, 1], [2, 3], [4, 0]])
    lengths = normalize_logits(z, temperature=0.5).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((3, 2), 2.0, dtype=torch.float64))
    torch.testing.assert_close(cross_entropy(normalize_logits(z), y), logit_norm_loss(z, y))


def test_zero_logits_have_a_finite_gradient() -> None:
    zeros = torch.zeros(1, 3, requires_grad=True)
    logit_norm_loss(zeros, torch.tensor([0])).backward()
    assert zeros.grad is not None
    assert bool(zeros.grad.isfinite().all())


@pytest.mark.parametrize(
    "make",
    [
        lambda t: logit_norm_loss(torch.zeros(2, 3), torch.tensor([0, 2]), temperature=t),
        lambda t: normalize_logits(torch.zeros(2, 3), temperature=t),
        LogitNormLoss,
    ],
)
def test_temperature_out_of_range_raises(make) -> None:
    with pytest.raises(ValueError, match=r"temperature=0.0 must be a number in \[1e-06, 1e\+06\]"):
        make(0.0)
