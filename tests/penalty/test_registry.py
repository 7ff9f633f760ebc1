"""The registry of penalties and losses by name: settings, criteria, and a model trained with each."""

from __future__ import annotations

import pytest
import torch

import labelsmooth as ls
from labelsmooth.penalty.registry import PENALTIES

Z = 9 * torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 4, -100, 2, 1, 3, 3])
each_entry = pytest.mark.parametrize("name", PENALTIES)


@each_entry
def test_a_strength_is_given_to_its_setting(name) -> None:
    entry = PENALTIES[name]
    torch.testing.assert_close(entry.make(0.5)(Z, Y), entry.function(Z, Y, **{entry.setting: 0.5}))
    if name != "focal":  # whose default gamma depends on the example
        torch.testing.assert_close(entry.make(entry.strength)(Z, Y), entry.make()(Z, Y))


@each_entry
@pytest.mark.parametrize("strength", [None, 0.5])
def test_criterion_adds_a_penalty_and_replaces_by_a_loss(name, strength) -> None:
    entry = PENALTIES[name]
    expected = entry.make(strength)(Z, Y)
    if entry.loss is None:
        expected = expected + ls.cross_entropy(Z, Y, label_smoothing=0.2)
        torch.testing.assert_close(entry.criterion(strength, 0.2)(Z, Y), expected)
    else:
        torch.testing.assert_close(entry.criterion(strength)(Z, Y), expected)
        with pytest.raises(ValueError, match=r"smooths no labels, so epsilon=0\.2 has no meaning"):
            entry.criterion(strength, 0.2)


@each_entry
def test_a_model_learns(name) -> None:
    x = torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    model = torch.nn.Linear(2, 2)
    criterion = PENALTIES[name].criterion()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    assert (model(x).argmax(-1) == y).float().mean() > 0.9
