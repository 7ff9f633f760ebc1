"""Label relaxation: its two limits, the edge of its set of distributions, and its range of alpha."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from labelsmooth import LabelRelaxationLoss, label_relaxation_loss

Z = 8 * torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(40) % 6


def test_alpha_zero_is_the_cross_entropy_and_alpha_one_is_zero() -> None:
    torch.testing.assert_close(label_relaxation_loss(Z, Y, alpha=0.0), F.cross_entropy(Z, Y))
    assert label_relaxation_loss(Z, Y, alpha=1.0) == 0


def test_is_continuous_at_the_edge_of_the_set() -> None:
    edge = math.log(9.0)  # p_y = 0.9
    z = torch.tensor([[edge - 1e-4, 0.0], [edge + 1e-4, 0.0]], dtype=torch.float64)
    values = label_relaxation_loss(z, torch.tensor([0, 0]), reduction="none")
    assert 0.0 < values[0] < 1e-8
    assert values[1] == 0.0


@pytest.mark.parametrize("make", [lambda a: label_relaxation_loss(Z, Y, alpha=a), LabelRelaxationLoss])
def test_alpha_out_of_range_raises(make) -> None:
    with pytest.raises(ValueError, match=r"alpha=1.5 must be a number in \[0, 1\]"):
        make(1.5)
