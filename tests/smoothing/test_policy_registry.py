"""The registry of policies by name: what each entry holds, and a model trained with each."""

from __future__ import annotations

import pytest
import torch

import labelsmooth as ls
from labelsmooth.smoothing.registry import POLICIES


@pytest.mark.parametrize("name", POLICIES)
def test_a_model_learns_with_every_one(name) -> None:
    method = POLICIES[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 2, generator=generator)
    y = torch.bucketize(x[:, 0].contiguous(), torch.tensor([-0.4, 0.4]))
    model = torch.nn.Linear(2, 3)
    policy = method.make(method.epsilon, 3, y, 20)
    criterion = ls.LabelSmoothingCrossEntropy(policy)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(20):
        for rows in torch.arange(90).split(30):
            optimizer.zero_grad()
            criterion(model(x[rows]), y[rows]).backward()
            optimizer.step()
        if hasattr(policy, "step"):
            policy.step()
    assert (model(x).argmax(-1) == y).float().mean() > 0.8


def test_every_entry_has_a_name_a_description_and_a_paper() -> None:
    for name, method in POLICIES.items():
        assert method.name == name
        assert method.line
        assert method.paper
